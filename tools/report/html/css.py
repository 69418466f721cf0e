"""The page's style sheet: for laptops, phones and paper, by day and by night."""

SCREEN = """
:root { color-scheme: light dark; --ink: #1a1a1a; --soft: #505050; --page: #fff; --shade: #f2f2f2; --line: #c8c8c8;
  --link: #00508f; --bad: #a33a00; --mark: #E69F00; --shadow: rgba(0, 0, 0, .22); }
* { box-sizing: border-box; }
body { margin: 0; color: var(--ink); background: var(--page);
  font: 16px/1.5 system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main, nav { padding: 1rem clamp(1rem, 3vw, 2.5rem); min-width: 0; }
main { max-width: 82rem; padding-bottom: 4rem; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 1rem 0 .5rem; }
h2 { font-size: 1.3rem; margin: 2.5rem 0 .75rem; padding-bottom: .25rem; border-bottom: 2px solid; }
h3 { font-size: 1.05rem; margin: 1.75rem 0 .5rem; }
h4 { font-size: .95rem; margin: 1rem 0 .35rem; }
h1, h2, h3, dd, li { overflow-wrap: anywhere; }
p, figcaption, dd { max-width: 46rem; }
a { color: var(--link); }
.skip { position: absolute; left: -99rem; background: var(--page); padding: .5rem 1rem; z-index: 2; }
.skip:focus { left: 0; }
nav h2 { font-size: 1rem; margin: 1rem 0 .5rem; border: 0; }
nav ul { list-style: none; margin: 0; padding: 0; display: flex; flex-flow: row wrap; gap: .4rem 1.25rem; }
nav a, td a { text-underline-offset: .15em; }
.beside { display: flex; flex-wrap: wrap; gap: 0 2.5rem; align-items: flex-start; }
.beside > :first-child { max-width: 100%; min-width: 0; }
.beside > :last-child { flex: 1 1 18rem; padding-top: .5rem; }
.scroll { overflow-x: auto; max-width: 100%; margin: 0 0 1.75rem;
  /* A shadow at an edge beyond which there is more: page-coloured covers scroll with the content, shadows stay. */
  background: linear-gradient(to right, var(--page) 30%, transparent) left / 2.5rem 100% no-repeat local,
    linear-gradient(to left, var(--page) 30%, transparent) right / 2.5rem 100% no-repeat local,
    radial-gradient(farthest-side at 0 50%, var(--shadow), transparent) left / .9rem 100% no-repeat scroll,
    radial-gradient(farthest-side at 100% 50%, var(--shadow), transparent) right / .9rem 100% no-repeat scroll; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding: .25rem 0; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid var(--line); text-align: right; vertical-align: top; }
thead th { border-bottom-color: var(--ink); vertical-align: bottom; }
thead th[colspan] { text-align: center; border-left: 2px solid var(--page); }
tbody th, tfoot th, thead tr:first-child th:first-child, .texts th, .texts td { text-align: left; }
tbody tr > th:first-child[scope=row] { position: sticky; left: 0; background: var(--page); max-width: 45vw;
  overflow-wrap: break-word; }
.runs td:nth-child(-n+4), .runs thead tr:first-child th:nth-child(-n+4) { text-align: left; }
.runs th[scope=rowgroup] { padding-top: 1rem; }
.runs tbody th[scope=row], tfoot th { font-weight: 400; }
.runs td:nth-child(2) { max-width: 26rem; min-width: 8rem; overflow-wrap: anywhere; }
.results td, .runs td:not(:nth-child(2)), .runs tbody tr th[scope=row] { white-space: nowrap; }
.results thead th:not([colspan]), .runs thead th:not([colspan]) { white-space: nowrap; }
.texts td { min-width: 14rem; overflow-wrap: anywhere; }
tfoot th, tfoot td { color: var(--soft); border-bottom: 0; }
.others { background: var(--shade); }
td small { display: block; color: var(--soft); font-size: .8rem; }
.failed, .missing { font-weight: 700; color: var(--bad); }
.note { margin: .4rem 0; font-size: .95rem; }
figure { margin: 1.25rem 0 2.25rem; }
figure img { max-width: 100%; height: auto; display: block; background: #fff; }
figcaption { margin-top: .5rem; font-size: .95rem; }
dl { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: .15rem 1rem; font-size: .95rem;
  margin: 1rem 0; }
dt { font-weight: 600; }
dd { margin: 0; }
.keys pre { columns: 16rem; }
.listing { max-height: 22rem; overflow: auto; border: 1px solid var(--line); }
pre { font-size: .82rem; line-height: 1.4; white-space: pre-wrap; overflow-wrap: anywhere; padding: .75rem; margin: 0; }
:target { outline: 3px solid var(--mark); outline-offset: 4px; }
"""
WIDE = """
@media screen and (min-width: 72rem) {
  body { display: grid; grid-template-columns: 13.5rem minmax(0, 1fr); max-width: 96rem; margin: 0 auto; }
  nav { position: sticky; top: 0; align-self: start; max-height: 100vh; overflow-y: auto; padding-right: 0;
    font-size: .95rem; }
  nav ul { flex-direction: column; }
  figure { display: grid; grid-template-columns: max-content minmax(14rem, 1fr); gap: 0 2rem; align-items: start; }
  figure img { max-width: 100%; }
}
"""
NIGHT = """
@media screen and (prefers-color-scheme: dark) {
  :root { --ink: #e6e6e6; --soft: #b4b4b4; --page: #16181b; --shade: #23272c; --line: #454b52; --link: #8cc4ff;
    --bad: #ff9e66; --shadow: rgba(0, 0, 0, .8); }
  figure img { filter: brightness(.88); }
}
"""
PAPER = """
@media print {
  @page { margin: 15mm; }
  body { font-size: 10pt; }
  main { max-width: none; padding: 0; }
  nav, .skip, .click { display: none; }
  h1 { margin-top: 0; }
  h2 { margin: 1.5rem 0 .5rem; }
  .scroll, .listing { overflow: visible; max-height: none; background: none; }
  .beside { display: block; }
  table { font-size: 8.5pt; }
  th, td { padding: 2pt 4pt; position: static !important; }
  thead { break-after: avoid; }
  tr, figure, .runs tbody, #rows { break-inside: avoid; }
  h2, h3, h4, caption, article dl { break-after: avoid; }
  p, figcaption, dd { max-width: none; }
  figure { margin: 3mm 0 5mm; }
  figure img { max-height: 95mm; width: auto; }
  figcaption, dl, .note { font-size: 8.5pt; }
  pre { font-size: 7pt; padding: 4pt; }
  .keys pre { columns: 3; }
  a { color: inherit; text-decoration: none; }
}
"""
STYLE = SCREEN + WIDE + NIGHT + PAPER
