"""The style sheet of reports: light and dark, wide and narrow."""

STYLE = """
:root{--ink:#1c2430;--soft:#5b6675;--line:#dfe4ea;--paper:#fff;--shade:#f5f7f9;
--c0:#1f6feb;--c1:#d9822b;--c2:#2a9d63;--c3:#8e5bd0;--c4:#c9405c;--c5:#5f7d95}
@media(prefers-color-scheme:dark){:root{--ink:#e4e9ef;--soft:#9aa6b4;--line:#303a46;--paper:#12171d;--shade:#1a2129;
--c0:#6ea8fe;--c1:#f0a35e;--c2:#5cc995;--c3:#b99cf0;--c4:#ee7d93;--c5:#93aec4}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.55 system-ui,sans-serif}
header,main{max-width:60rem;margin:0 auto;padding:0 1.25rem}
header{padding-top:2.5rem}
h1{font-size:1.7rem;line-height:1.2;margin:0 0 .3rem}h2{font-size:1.3rem;margin:0 0 .8rem}
h3{font-size:1.05rem;margin:1.8rem 0 .5rem}h4{font-size:.9rem;margin:0 0 .3rem;color:var(--soft)}
header p,figcaption,caption,small{color:var(--soft)}
code{font:.9em ui-monospace,monospace;overflow-wrap:anywhere}
nav{position:sticky;top:0;z-index:1;background:var(--paper);border-bottom:1px solid var(--line);display:flex;
flex-wrap:wrap;gap:.2rem 1.1rem;justify-content:center;padding:.6rem 1rem;margin-top:1rem}
nav a{color:var(--soft);text-decoration:none}nav a:hover,nav a:focus{color:var(--c0)}
section{padding:2rem 0;border-bottom:1px solid var(--line);scroll-margin-top:3rem}
figure{margin:0 0 1.2rem}figcaption{font-size:.85rem}
svg{display:block;width:100%;max-width:44rem;height:auto}
svg text{fill:var(--soft);font:11px system-ui,sans-serif}svg .label{fill:var(--ink);font-size:12px}
.grid{stroke:var(--line)}.line{fill:none;stroke:var(--c);stroke-width:2}
.dot,.bar{fill:var(--c)}
.s0{--c:var(--c0)}.s1{--c:var(--c1)}.s2{--c:var(--c2)}.s3{--c:var(--c3)}.s4{--c:var(--c4)}.s5{--c:var(--c5)}
.legend{margin:.2rem 0;font-size:.85rem;display:flex;flex-wrap:wrap;gap:.2rem 1rem}
.key::before{content:"";display:inline-block;width:.7em;height:.7em;margin-right:.4em;border-radius:2px;background:var(--c)}
.scroll{overflow-x:auto;margin-bottom:1.2rem}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:.9rem}
caption{text-align:left;font-size:.85rem;padding-bottom:.3rem}
th,td{padding:.25rem .8rem .25rem 0;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap}
th[scope=row],th:first-child{text-align:left;font-weight:500}thead th{color:var(--soft);font-weight:500}
.columns{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,20rem),1fr));gap:0 2rem}
.example{background:var(--shade);border-radius:8px;padding:1rem 1.25rem;margin-bottom:1rem}
.example h3{margin:0 0 .2rem}.example p{margin:0 0 .8rem}
ol{margin:0;padding-left:1.4rem;font-size:.9rem}li{overflow-wrap:anywhere}.hit{color:var(--c2);font-weight:600}
@media print{nav{display:none}}
""".replace("\n", "")
