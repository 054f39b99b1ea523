"""Before anything imports jax: eight CPU devices, so that sharded code is tested everywhere; a compilation cache."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

DEVICES = 8

# Set here and not in a shell script, so that no way to start the tests goes without; processes they start inherit it,
# but those that run whole scripts drop the flags of XLA. Compiling takes longer than running here: hence the second and
# the third flag, which make it a third quicker.
os.environ["JAX_PLATFORMS"] = "cpu"
XLA_FLAGS = (
    f"--xla_force_host_platform_device_count={DEVICES}",
    "--xla_backend_optimization_level=0",
    "--xla_llvm_disable_expensive_passes=true",
)
os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *XLA_FLAGS]).strip()
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(tempfile.gettempdir()) / "genrec_test_compilations"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

import jax  # noqa: E402
import pytest  # noqa: E402
from absl import flags  # noqa: E402

if not flags.FLAGS.is_parsed():
    flags.FLAGS.mark_as_parsed()  # Grain reads absl flags


def pytest_report_header() -> str:
    return f"jax {jax.__version__}, {jax.device_count()} {jax.default_backend()} devices"


@pytest.fixture
def lint_shell() -> Callable[[Path], None]:
    """Checks a shell script by bash and by ShellCheck, which is installed beside Python."""

    def lint(path: Path) -> None:
        subprocess.run(["bash", "-n", path], check=True)
        shellcheck = Path(sys.executable).with_name("shellcheck")
        subprocess.run([shellcheck, "--external-sources", path], cwd=Path(__file__).parent.parent, check=True)

    return lint
