// Calls of the server's API. Addresses are relative, so that the page also works behind a proxy under a path.

import { byId } from "./elements.js";

const TOKEN = "genrec token"; // its key in the storage of the tab

/** What the server refused, or that it did not answer (status 0). */
export class Problem extends Error {
  constructor({ status = 0, title = "", detail = "", request_id = "" }, retryAfter = 0) {
    super(detail || title || `The server answered ${status}.`);
    Object.assign(this, { status, title, requestId: request_id, retryAfter });
  }
}

let asking = null; // a promise while a token is asked for: calls that fail meanwhile wait for the same one

/** Asks for a token in a dialog; resolves when one is given. */
function askForToken(refused) {
  asking ??= new Promise((resolve) => {
    const [dialog, field] = [byId("token-dialog"), byId("token")];
    byId("token-refused").hidden = !refused;
    field.value = "";
    byId("token-form").onsubmit = (event) => {
      event.preventDefault();
      sessionStorage.setItem(TOKEN, field.value.trim());
      dialog.close();
      asking = null;
      resolve();
    };
    dialog.oncancel = (event) => event.preventDefault(); // without a token there is nothing to go on with
    dialog.showModal();
  });
  return asking;
}

async function fetched(method, path, body, signal) {
  const token = sessionStorage.getItem(TOKEN);
  const headers = { Accept: "application/json" };
  if (token) headers.Authorization = `Bearer ${token}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  try {
    const answer = await fetch(path, {
      method,
      headers,
      signal,
      body: body === undefined ? body : JSON.stringify(body),
    });
    return [answer, token];
  } catch (problem) {
    if (problem.name === "AbortError") throw problem;
    throw new Problem({ title: "No answer", detail: "The server cannot be reached." });
  }
}

/** Returns the JSON that a call answers, null if it answers nothing. Throws Problem. */
export async function call(method, path, body, signal) {
  let [answer, token] = await fetched(method, path, body, signal);
  while (answer.status === 401) {
    // A token that was given while this call was under way is tried before a person is asked again.
    if (token === sessionStorage.getItem(TOKEN)) await askForToken(Boolean(token));
    [answer, token] = await fetched(method, path, body, signal);
  }
  const text = await answer.text();
  let fields = null;
  try {
    fields = text ? JSON.parse(text) : null;
  } catch {
    throw new Problem({ status: answer.status, detail: `The server answered ${answer.status}, and no JSON.` });
  }
  if (!answer.ok) throw new Problem({ ...fields, status: answer.status }, Number(answer.headers.get("Retry-After")));
  return fields;
}

/** Returns what `get` answers, or `otherwise` where the server has no such thing. */
export async function callOr(otherwise, path) {
  try {
    return await call("GET", path);
  } catch (problem) {
    if (problem.status === 404 || problem.status === 403) return otherwise;
    throw problem;
  }
}

export const inPath = encodeURIComponent;
