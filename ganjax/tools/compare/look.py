"""The style and the script of the page; both stand in it."""

CSS = """
:root { color-scheme: light dark; --back: #fbfbfa; --card: #fff;
  --text: #1c1d1f; --soft: #5c6066; --rule: #dcdee2; --grid: #eceef0;
  --lane: #e3e6ea; --link: #0b5ea8; --c0: #0072b2; --c1: #c24e00;
  --c2: #00805c; --c3: #b5568a; --c4: #b87700; --c5: #2a93cf; --c6: #6a3fb5;
  --c7: #6b6b1f; --h0: #009e73; --h1: #e69f00; --h2: #cc79a7; --h3: #d55e00;
  --h4: #000; --h5: #777 }
@media (prefers-color-scheme: dark) { :root { --back: #131416; --card: #1b1d20;
  --text: #e7e8ea; --soft: #a3a8b0; --rule: #35393f; --grid: #2a2d32;
  --lane: #32363c; --link: #7fbdf5; --c0: #4aa8e8; --c1: #f28b4b; --c2: #2fc79a;
  --c3: #e79ac5; --c4: #f0b429; --c5: #8fd3ff; --c6: #b79cf2; --c7: #c9c96a;
  --h4: #fff } }
* { box-sizing: border-box }
body { margin: 0; background: var(--back); color: var(--text);
  font: 15px/1.5 system-ui, sans-serif }
header, main { max-width: 1320px; margin: auto; padding: 0 1.2rem }
header { padding-top: 1.6rem }
h1 { font-size: 1.6rem; margin: 0 } h2 { font-size: 1.2rem; margin: 0 0 .5rem }
h3 { font-size: 1rem; margin: 1.2rem 0 .3rem }
p { margin: .4rem 0; max-width: 75ch } .soft, figcaption, .note {
  color: var(--soft); font-size: .85rem }
.note { overflow-wrap: anywhere; max-width: 120ch }
nav a { color: var(--link); margin-right: 1rem }
section { background: var(--card); border: 1px solid var(--rule);
  border-radius: 8px; padding: 1rem 1.2rem; margin: 1rem 0 }
fieldset { position: sticky; top: 0; z-index: 2; margin: 1rem 0;
  background: var(--card); border: 1px solid var(--rule); border-radius: 8px;
  padding: .3rem 1rem .5rem; max-height: 30vh; overflow: auto }
legend { color: var(--soft); font-size: .85rem }
fieldset label { display: inline-block; margin-right: 1.2rem;
  overflow-wrap: anywhere }
.key { display: inline-block; width: 1.4em; height: 0; margin: 0 .4em .25em 0;
  border-top: 3px solid currentColor; vertical-align: middle }
.key.d1 { border-top-style: dashed } .key.d2 { border-top-style: dotted }
.key.d3 { border-top-style: double }
.scroll { overflow-x: auto } table { border-collapse: collapse; margin: .4rem 0;
  font-variant-numeric: tabular-nums }
th, td { text-align: left; vertical-align: top; padding: .35rem 1.1rem .35rem 0;
  border-bottom: 1px solid var(--rule); white-space: nowrap }
th:first-child { white-space: normal; min-width: 11rem; max-width: 26rem }
tbody th { font-weight: 500 } thead th { color: var(--soft); font-size: .85rem;
  font-weight: 600; vertical-align: bottom }
td small { color: var(--soft) } td b { color: var(--text) }
td.wrap { white-space: normal; min-width: 14rem }
.charts { display: grid; gap: .6rem 1.2rem;
  grid-template-columns: repeat(auto-fill, minmax(min(270px, 100%), 1fr)) }
.charts figure { margin: 0 } .charts h3 { margin: .4rem 0 0; font-size: .9rem }
svg { display: block; width: 100%; touch-action: pan-y }
svg text { fill: var(--soft); font-size: 10.5px } svg path { fill: none }
.grid { stroke: var(--grid) } .axis { stroke: var(--rule) }
.mark { stroke: var(--soft); stroke-dasharray: 4 3 }
.cursor { stroke: var(--soft); visibility: hidden }
svg .line { stroke: currentColor; stroke-width: 1.6; stroke-linejoin: round }
svg .d1 { stroke-dasharray: 6 3 } svg .d2 { stroke-dasharray: 2 2 }
svg .d3 { stroke-dasharray: 8 2 2 2 }
svg .band { fill: currentColor; opacity: .16 } circle { fill: currentColor }
.c0 { color: var(--c0) } .c1 { color: var(--c1) } .c2 { color: var(--c2) }
.c3 { color: var(--c3) } .c4 { color: var(--c4) } .c5 { color: var(--c5) }
.c6 { color: var(--c6) } .c7 { color: var(--c7) } .off { display: none }
#tip { position: fixed; z-index: 3; pointer-events: none; visibility: hidden;
  background: var(--card); border: 1px solid var(--rule); border-radius: 6px;
  padding: .3rem .6rem; font-size: .8rem; max-width: 24rem;
  box-shadow: 0 2px 8px #0003; font-variant-numeric: tabular-nums }
.time { display: flex; gap: 1rem; align-items: center; flex-wrap: wrap;
  position: sticky; bottom: 0; background: var(--card); padding: .5rem 0 }
.time input { flex: 1; min-width: 12rem; accent-color: var(--c0) }
.blocks { display: flex; flex-wrap: wrap; gap: .4rem 2rem }
.shots { display: flex; flex-wrap: wrap; gap: .8rem }
.shots figure { margin: 0; width: 180px } .shots img { width: 100%;
  height: auto; image-rendering: pixelated; border-radius: 3px }
.shots figcaption { overflow-wrap: anywhere; line-height: 1.3 }
.health { display: grid; gap: .15rem .8rem; align-items: center;
  grid-template-columns: minmax(7rem, max-content) 1fr; margin: .5rem 0 }
.health > * { overflow-wrap: anywhere } .bar { position: relative;
  height: 14px; border: 1px dashed var(--rule); border-radius: 3px }
.bar i { position: absolute; top: 0; bottom: 0 } .bar .done {
  background: var(--lane) }
.h0 { background: var(--h0) } .h1 { background: var(--h1) }
.h2 { background: var(--h2) } .h3 { background: var(--h3) }
.h4 { background: var(--h4) } .h5 { background: var(--h5) }
.names { max-width: none }
.names span { margin-right: 1.2em; white-space: nowrap }
.swatch { display: inline-block; width: 1em; height: .8em; margin: 0 .4em 0 0;
  border-radius: 2px }
details { margin: .6rem 0 } summary { cursor: pointer; color: var(--link) }
code { font: .85em/1.4 ui-monospace, monospace; overflow-wrap: anywhere }
:focus-visible { outline: 2px solid var(--link); outline-offset: 2px }
@media (max-width: 640px) { header, main { padding: 0 .6rem }
  header { padding-top: 1rem } section { padding: .7rem .8rem }
  fieldset { position: static; max-height: none }
  .shots { gap: .6rem } .shots figure { width: calc(50% - .3rem) }
  .health { grid-template-columns: 1fr } th:first-child { min-width: 12rem } }
@media print { fieldset, .time, nav { display: none } }
"""

# `L`, `R` and `W` are the plot's edges and the chart's width, of `drawing`.
JS = """
'use strict';
const data = JSON.parse(document.getElementById('data').textContent);
const all = (what, where) => [...(where || document).querySelectorAll(what)];
const boxes = all('fieldset input');
for (const box of boxes) box.onchange = () => {
  for (const thing of all('.g' + box.value))
    thing.classList.toggle('off', !box.checked);
};
document.querySelector('fieldset').disabled = false;

const tip = document.getElementById('tip');
const text = v => v === null ? '' : String(v);
all('.charts svg').forEach((svg, i) => {
  const cursor = svg.querySelector('.cursor');
  const hide = () => {
    tip.style.visibility = cursor.style.visibility = 'hidden';
  };
  const move = event => {
    const box = svg.getBoundingClientRect();
    const at = (event.clientX - box.left) / box.width * data.width;
    const share = (at - data.left) / (data.right - data.left);
    if (share < -.02 || share > 1.02) return hide();
    const wanted = share * data.last;
    const lines = [];
    let step = 0;
    for (const curve of data.charts[i]) {
      if (!boxes[curve.group].checked) continue;
      let k = 0;
      curve.steps.forEach((s, j) => {
        if (Math.abs(s - wanted) < Math.abs(curve.steps[k] - wanted)) k = j;
      });
      if (!lines.length) step = curve.steps[k];
      const line = document.createElement('div');
      const key = document.createElement('span');
      key.className = 'key c' + curve.group % 8;
      const spread = curve.spread[k] === null ? '' : ' ± ' + curve.spread[k];
      line.append(key, text(curve.mean[k]) + spread + '  ' +
        data.names[curve.group]);
      lines.push(line);
    }
    if (!lines.length) return hide();
    const head = document.createElement('div');
    head.textContent = 'step ' + Math.round(step).toLocaleString('en');
    tip.replaceChildren(head, ...lines);
    const right = innerWidth - tip.offsetWidth - 8;
    tip.style.left = Math.max(0, Math.min(event.clientX + 14, right)) + 'px';
    const below = event.clientY + 16;
    const fits = below + tip.offsetHeight < innerHeight;
    tip.style.top = (fits ? below : event.clientY - tip.offsetHeight - 10) +
      'px';
    const x = data.left + step / data.last * (data.right - data.left);
    cursor.setAttribute('transform', `translate(${x - data.left} 0)`);
    tip.style.visibility = cursor.style.visibility = 'visible';
  };
  svg.onpointermove = svg.onpointerdown = move;
  svg.onpointerleave = hide;
});

const slider = document.querySelector('.time input');
if (slider) {
  const show = () => {
    const step = data.times[slider.value];
    slider.setAttribute('aria-valuetext', 'step ' + step);
    document.querySelector('.time output').textContent =
      'step ' + step.toLocaleString('en');
    for (const figure of all('.shots figure')) {
      const pictures = all('img', figure);
      if (!pictures.length) continue;
      const past = pictures.filter(p => +p.dataset.step <= step);
      const now = past.length ? past[past.length - 1] : pictures[0];
      for (const picture of pictures) picture.hidden = picture !== now;
      figure.querySelector('.at').textContent =
        (+now.dataset.step).toLocaleString('en');
    }
  };
  slider.oninput = show;
  slider.disabled = false;
  show();
}
"""
