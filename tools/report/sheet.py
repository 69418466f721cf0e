"""The page's style sheet: dark on white, for a laptop's screen and for paper."""

STYLE = """
body { max-width: 1240px; margin: 0 auto; padding: 1rem 2rem 4rem; color: #1a1a1a; background: #fff;
  font: 16px/1.5 system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 1rem 0 .5rem; }
h2 { font-size: 1.3rem; margin: 2.5rem 0 .75rem; padding-bottom: .25rem; border-bottom: 2px solid #1a1a1a; }
h3 { font-size: 1.05rem; margin: 1.75rem 0 .5rem; }
p, figcaption, dd { max-width: 46rem; }
a { color: #00508f; }
table { border-collapse: collapse; margin: 0 0 1.75rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding: .25rem 0; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid #c8c8c8; text-align: right; vertical-align: top; }
thead th { border-bottom: 1px solid #1a1a1a; vertical-align: bottom; }
thead th[colspan] { text-align: center; border-left: 2px solid #fff; }
tbody th, thead tr:first-child th:first-child, .texts th, .texts td { text-align: left; }
.runs td:nth-child(-n+4), .runs thead tr:first-child th:nth-child(-n+4) { text-align: left; }
.runs th[scope=rowgroup] { padding-top: 1rem; }
.runs tbody th[scope=row] { font-weight: 400; }
.runs td:nth-child(2) { max-width: 26rem; white-space: normal; overflow-wrap: anywhere; }
.results td, .results tbody th, .runs th, .runs td { white-space: nowrap; }
.mser { background: #f2f2f2; }
td small { display: block; color: #505050; font-size: .8rem; }
.failed, .missing { font-weight: 700; color: #a33a00; }
.note { margin: .4rem 0; font-size: .95rem; }
figure { margin: 1.25rem 0 2.25rem; break-inside: avoid; }
figure img { max-width: 100%; height: auto; display: block; }
figcaption { margin-top: .5rem; font-size: .95rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1rem; font-size: .95rem; }
dt { font-weight: 600; }
dd { margin: 0; overflow-wrap: anywhere; }
details { margin: .4rem 0; }
summary { cursor: pointer; font-weight: 600; }
pre { font-size: .82rem; line-height: 1.4; white-space: pre-wrap; overflow-wrap: anywhere; border: 1px solid #c8c8c8;
  padding: .75rem; margin: .5rem 0; }
:target { outline: 3px solid #E69F00; outline-offset: 4px; }
@media print {
  @page { margin: 15mm; }
  body { font-size: 10pt; max-width: none; padding: 0; }
  table { font-size: 8.5pt; }
  th, td { padding: 2pt 4pt; }
  tr, figure { break-inside: avoid; }
  h2, h3 { break-after: avoid; }
  a { color: inherit; text-decoration: none; }
}
"""
