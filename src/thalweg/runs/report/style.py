"""How the page looks: one column that becomes two where there is room, light or dark as the reader's system is."""

from __future__ import annotations

STYLE = """
:root { color-scheme: light dark;
  --page: #fbfbfa; --card: #ffffff; --ink: #1c2024; --dim: #5f6872; --line: #dfe3e6; --code: #f3f4f5;
  --good: #187a3c; --warn: #9a6200; --bad: #b3261e; --busy: #1d5fb8;
  --s1: #1d6fd1; --s2: #d2691e; --s3: #0d8a6a; --s4: #c2317f; --s5: #7a4fd0; --s6: #8a7400; --s7: #0b8fae;
  --s8: #a8443a; }
@media (prefers-color-scheme: dark) { :root {
  --page: #14171a; --card: #1c2024; --ink: #e7eaec; --dim: #9aa4ad; --line: #343b41; --code: #23282d;
  --good: #63cf8b; --warn: #e5b252; --bad: #ff8a80; --busy: #7db4ff;
  --s1: #6fb0ff; --s2: #f5a35c; --s3: #4fd1ae; --s4: #ff8ac4; --s5: #b79bff; --s6: #e0ca4e; --s7: #5fd0ea;
  --s8: #ff9e92; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main { max-width: 1140px; margin: 0 auto; padding: 28px 20px 56px; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0 0 6px; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 40px 0 12px; padding-bottom: 6px; border-bottom: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 20px 0 8px; }
p { margin: 6px 0; overflow-wrap: anywhere; }
.dim, figcaption, dt { color: var(--dim); }
.dim, figcaption { font-size: .9rem; }
.status { display: inline-block; padding: 1px 12px; border-radius: 999px; border: 1.5px solid currentColor;
  font-weight: 600; font-size: .95rem; }
.finished { color: var(--good); } .running { color: var(--busy); } .interrupted, .warning { color: var(--warn); }
.failed, .killed { color: var(--bad); }
.note { border-left: 4px solid currentColor; background: var(--card); padding: 10px 14px; margin: 14px 0;
  border-radius: 4px; white-space: pre-wrap; overflow-wrap: anywhere; }
.note > * { color: var(--ink); }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px; margin: 20px 0 0; }
.cards div { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 10px 14px; }
.cards b { display: block; font-size: 1.2rem; font-variant-numeric: tabular-nums; line-height: 1.3;
  overflow-wrap: anywhere; }
.cards span { color: var(--dim); font-size: .85rem; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(440px, 100%), 1fr)); gap: 16px; }
.charts > figure:only-of-type { align-self: start; }
.charts > figure, section > figure:not(.picture) { max-width: 560px; }
.panels { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(230px, 100%), 1fr)); gap: 16px; }
.panels.wide { grid-template-columns: repeat(auto-fill, minmax(min(440px, 100%), 1fr)); }
figure { margin: 0; background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 12px;
  min-width: 0; }
figure.picture { margin-bottom: 16px; }
figcaption { margin-bottom: 6px; overflow-wrap: anywhere; }
figcaption b { color: var(--ink); }
figure svg { display: block; width: 100%; height: auto; }
figure img { display: block; width: 100%; height: auto; }
.larger { display: none; float: right; }
.picture img { background: #fff; border-radius: 4px; width: auto; max-width: 100%; margin: 0 auto; }
.panels img { image-rendering: pixelated; }
.key { display: inline-flex; align-items: center; gap: 6px; margin-right: 14px; font-size: .85rem; }
.key i { width: 14px; height: 4px; border-radius: 2px; flex: none; }
.scale { display: flex; align-items: center; gap: 10px; font-size: .85rem; margin: 10px 0 0; max-width: 460px; }
.scale i { flex: 1; height: 10px; border-radius: 5px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; }
th, td { text-align: left; padding: 6px 14px 6px 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { font-weight: 600; color: var(--dim); white-space: nowrap; }
td { overflow-wrap: break-word; min-width: 60px; }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.time { white-space: nowrap; font-variant-numeric: tabular-nums; }
dl { margin: 0; }
dl > div { display: grid; grid-template-columns: minmax(120px, 230px) 1fr; gap: 14px; padding: 5px 0;
  border-bottom: 1px solid var(--line); font-size: .92rem; }
dd { margin: 0; overflow-wrap: anywhere; }
code, pre { font-family: ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; font-size: .85rem; }
pre { background: var(--code); border: 1px solid var(--line); border-radius: 8px; padding: 12px 14px; margin: 0;
  overflow-x: auto; line-height: 1.45; }
details { margin: 10px 0; } summary { cursor: pointer; color: var(--dim); font-size: .92rem; }
summary + pre { margin-top: 8px; }
.failure { padding: 10px 0 6px; border-bottom: 1px solid var(--line); font-size: .92rem; overflow-wrap: anywhere; }
td:has(.bar) { width: 60%; vertical-align: middle; }
.event { display: grid; grid-template-columns: 110px 270px 1fr; gap: 4px 14px; padding: 6px 0;
  border-bottom: 1px solid var(--line); font-size: .92rem; overflow-wrap: anywhere; }
.bar { display: block; height: 8px; border-radius: 4px; background: var(--s1); min-width: 2px; }
@media (max-width: 560px) {
  main { padding: 18px 14px 40px; } h1 { font-size: 1.4rem; }
  .larger { display: block; } .picture:has(:checked) { overflow-x: auto; }
  .picture:has(:checked) img { max-width: none; width: 760px; }
  figure { padding: 10px; } .cards { grid-template-columns: 1fr 1fr; gap: 8px; }
  .panels { grid-template-columns: 1fr 1fr; gap: 8px; }
  th, td { padding-right: 9px; } table { font-size: .85rem; }
  .wide td:last-child { min-width: 300px; }
  .event { grid-template-columns: 90px 1fr; } .event div:nth-child(3) { grid-column: 1 / 3; }
  dl > div { grid-template-columns: 1fr; gap: 0; } }
@media print { body { background: #fff; } section { break-inside: avoid-page; } }
"""
