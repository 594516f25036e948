"""Colours and rules shared by the page and its figures."""

# Inks of a figure. In the SVG each is replaced by the page's variable of that role, so figures follow light and dark.
INK = "#1f2328"
MUTED = "#59636e"
RULE = "#d1d9e0"
PAPER = "#ffffff"
VARIABLES = {INK: "var(--ink)", MUTED: "var(--muted)", RULE: "var(--rule)", PAPER: "var(--paper)"}

# Colours of data: a contrast of at least 3:1 on white and on the dark paper (a test computes it).
BLUE = "#2f7fc1"
ORANGE = "#d9600f"
GREEN = "#2e8b57"
PURPLE = "#8a63d2"
GRAY = "#7d868f"
SERIES = (BLUE, ORANGE, GREEN, PURPLE, GRAY)
DARK_PAPER = "#15181c"

CSS = """
:root{--ink:#1f2328;--muted:#59636e;--rule:#d1d9e0;--paper:#ffffff;--soft:#f4f6f8;--mark:#fff3e6;--accent:#b54a00}
@media (prefers-color-scheme:dark){:root{--ink:#e6e9ec;--muted:#a3abb3;--rule:#3a4149;--paper:#15181c;--soft:#1f2429;
--mark:#3a2a1a;--accent:#f0a064}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:1rem/1.55 system-ui,-apple-system,"Segoe UI",Roboto,
"Noto Sans","Liberation Sans",sans-serif}
main{max-width:62rem;margin:0 auto;padding:1.5rem 1.25rem 3rem}
h1{font-size:1.75rem;line-height:1.25;margin:.5rem 0;overflow-wrap:anywhere}
h2{font-size:1.2rem;margin:2.5rem 0 .75rem;padding-top:.75rem;border-top:1px solid var(--rule)}
p{margin:.5rem 0 1rem;max-width:46rem;overflow-wrap:break-word}
.lead{font-size:1.1rem}
.note{border-left:3px solid var(--accent);background:var(--soft);padding:.5rem .9rem}
dl{margin:.5rem 0 1rem}
dl>div{display:grid;grid-template-columns:minmax(8rem,13rem) 1fr;gap:0 1rem;padding:.3rem 0;
border-bottom:1px solid var(--rule)}
dt{color:var(--muted)}
dd{margin:0;overflow-wrap:anywhere}
.scroll{overflow-x:auto;margin:.75rem 0 1.25rem}
table{border-collapse:collapse;font-size:.92rem;font-variant-numeric:tabular-nums;min-width:60%}
caption{text-align:left;color:var(--muted);padding:0 0 .4rem;font-size:.92rem}
caption>span{position:sticky;left:0;display:inline-block;max-width:min(46rem,calc(100vw - 2.2rem))}
th,td{padding:.35rem .75rem .35rem 0;border-bottom:1px solid var(--rule);vertical-align:top}
th{font-weight:600}
tbody th{font-weight:400}
td,th{white-space:nowrap}
th[scope=col]{white-space:normal;vertical-align:bottom}
.words{text-align:left}
td code{display:block;min-width:15rem;white-space:normal}
.number{text-align:right;padding-left:.5rem}
.marked>*{background:var(--mark);font-weight:600}
code{font-family:ui-monospace,"SF Mono",Menlo,Consolas,"DejaVu Sans Mono",monospace;font-size:.88em;
overflow-wrap:anywhere}
pre{background:var(--soft);border:1px solid var(--rule);border-radius:6px;padding:.7rem .9rem;margin:.5rem 0 1rem;
white-space:pre-wrap;overflow-wrap:anywhere;user-select:all;-webkit-user-select:all}
figure{margin:.5rem 0 1.25rem}
figcaption{color:var(--muted);font-size:.92rem;margin-top:.35rem;max-width:40rem}
svg.plot{display:block;width:100%;max-width:34rem;height:auto}
svg.plot text{font-family:inherit!important}
.row{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,21rem),1fr));gap:.5rem 2rem;align-items:start}
.sheet{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,20rem),1fr));gap:1rem 2rem;
margin:.75rem 0 1.25rem}
.sheet figure,.gallery figure{margin:0}
.strip{display:grid;grid-template-columns:repeat(var(--across),1fr);gap:3px}
.gallery{display:grid;grid-template-columns:repeat(auto-fill,minmax(6.5rem,1fr));gap:1rem;margin:.75rem 0 1.25rem}
.sheet figcaption,.gallery figcaption{font-size:.88rem;overflow-wrap:anywhere}
img{display:block;width:100%;height:auto;border-radius:2px;background:var(--soft)}
img.pixelated{image-rendering:pixelated}
@media (max-width:40rem){main{padding:1rem .9rem 2rem}h1{font-size:1.45rem}dl>div{grid-template-columns:1fr}
.gallery{grid-template-columns:repeat(auto-fill,minmax(5.5rem,1fr))}}
@media print{:root{--ink:#000;--muted:#444;--rule:#bbb;--paper:#fff;--soft:#fff;--mark:#eee;--accent:#000}
body{font-size:10pt}main{max-width:none;padding:0}h2{break-after:avoid}figure,tr,pre,.note{break-inside:avoid}
.scroll{overflow:visible}td,th{white-space:normal}}
"""
