'use strict';

// What `page.py` wrote: names of the settings, charts, steps with samples.
const data = JSON.parse(document.getElementById('data').textContent);
const all = (what, where) => [...(where || document).querySelectorAll(what)];
const boxes = all('fieldset input');
const isShown = group => boxes[group].checked;
const inEnglish = step => Math.round(step).toLocaleString('en');

// --- Charts ---------------------------------------------------------------

const HEIGHT = 200;
// More settings than colours are told apart by dashes; `page.css` has both.
const DASHES = [[], [6, 3], [2, 2], [8, 2, 2, 2]];
const DOTS = 15;  // Curves of fewer points show them.
const colour = name =>
  getComputedStyle(document.documentElement).getPropertyValue('--' + name);
const setting = group => colour('c' + group % 8).trim();

// Ticks such as 20k and 1.5M keep the axes narrow.
const compact = new Intl.NumberFormat(
  'en', {notation: 'compact', maximumSignificantDigits: 4});
const tick = value => {
  if (value === null) return '';
  const size = Math.abs(value);
  return size >= 1e4 ? compact.format(value) : String(+value.toPrecision(4));
};

// Each curve has steps of its own, and is three series: its mean and the two
// edges of its band. `uPlot.join` lays them over the steps of all.
function tables(chart) {
  const floor = chart.log ? chart.range[0] / 100 : -Infinity;
  return chart.curves.map(curve => {
    const edge = sign => curve.mean.map((mean, i) => {
      const spread = curve.spread[i];
      // A logarithm has no place for a lower edge below 0.
      return spread === null ? null : Math.max(mean + sign * spread, floor);
    });
    return [curve.steps, curve.mean, edge(1), edge(-1)];
  });
}

// A dashed line, such as that of a D that can tell nothing.
function drawMark(u, value) {
  const y = Math.round(u.valToPos(value, 'y', true));
  const {left, width} = u.bbox;
  u.ctx.save();
  u.ctx.strokeStyle = colour('soft');
  u.ctx.setLineDash([4, 3]);
  u.ctx.beginPath();
  u.ctx.moveTo(left, y);
  u.ctx.lineTo(left + width, y);
  u.ctx.stroke();
  u.ctx.restore();
}

function options(chart, width) {
  const series = [{}];
  const bands = [];
  for (const {group, steps} of chart.curves) {
    const stroke = setting(group);
    const show = isShown(group);
    const edge = {show, stroke: 'transparent', points: {show: false}};
    const upper = series.length + 1;
    series.push(
      {
        show, stroke, width: 1.6, dash: DASHES[Math.floor(group / 8) % 4],
        points: {show: steps.length < DOTS, size: 4, fill: stroke},
      }, edge, {...edge});
    bands.push({series: [upper, upper + 1], fill: stroke + '29'});
  }
  const axis = {
    stroke: colour('soft'), font: '11px system-ui, sans-serif',
    grid: {stroke: colour('grid'), width: 1},
    ticks: {stroke: colour('rule'), width: 1, size: 4},
    values: (u, splits) => splits.map(tick),
  };
  const [low, high] = chart.range;
  return {
    width, height: HEIGHT, series, bands,
    legend: {show: false},
    scales: {
      // All charts begin and end at the same steps, unless one is enlarged.
      x: {time: false, min: 0, max: data.last},
      y: {range: [low, high], distr: chart.log ? 3 : 1},
    },
    axes: [
      {...axis, grid: {show: false}, size: 28, space: 60},
      {...axis, size: 52, space: 30},
    ],
    cursor: {
      y: false, points: {show: false},
      drag: {x: true, y: false},
      bind: {dblclick: u => () => u.setScale('x', {min: 0, max: data.last})},
    },
    hooks: {
      drawAxes: [u => chart.mark !== null && drawMark(u, chart.mark)],
      setCursor: [u => point(u, chart)],
    },
  };
}

const places = all('.chart');
let charts = [];

function drawCharts() {
  for (const u of charts) u.destroy();
  charts = data.charts.map((chart, i) => new uPlot(
    options(chart, places[i].clientWidth), uPlot.join(tables(chart)),
    places[i]));
}

drawCharts();
new ResizeObserver(() => charts.forEach(
  (u, i) => u.setSize({width: places[i].clientWidth, height: HEIGHT})
)).observe(document.querySelector('.charts'));
// A canvas does not follow the page's colours by itself.
matchMedia('(prefers-color-scheme: dark)').onchange = drawCharts;

for (const box of boxes) box.onchange = () => {
  for (const thing of all('.g' + box.value))
    thing.classList.toggle('off', !box.checked);
  charts.forEach((u, i) => data.charts[i].curves.forEach((curve, k) => {
    if (curve.group !== +box.value) return;
    for (const series of [1, 2, 3])
      u.setSeries(3 * k + series, {show: box.checked});
  }));
};
document.querySelector('fieldset').disabled = false;

// --- What a pointer shows -------------------------------------------------

const tip = document.getElementById('tip');

function nearest(steps, wanted) {
  let best = 0;
  steps.forEach((step, i) => {
    if (Math.abs(step - wanted) < Math.abs(steps[best] - wanted)) best = i;
  });
  return best;
}

function point(u, chart) {
  const shown = chart.curves.filter(curve => isShown(curve.group));
  if (u.cursor.left < 0 || !shown.length) {
    tip.style.visibility = 'hidden';
    return;
  }
  const wanted = u.posToVal(u.cursor.left, 'x');
  const head = document.createElement('div');
  head.textContent =
    'step ' + inEnglish(shown[0].steps[nearest(shown[0].steps, wanted)]);
  const lines = shown.map(({group, steps, mean, spread}) => {
    const i = nearest(steps, wanted);
    const line = document.createElement('div');
    const key = document.createElement('span');
    key.className = `key c${group % 8} d${Math.floor(group / 8) % 4}`;
    const band = spread[i] === null ? '' : ' ± ' + spread[i];
    // As text: a name may hold anything.
    line.append(key, `${mean[i]}${band}  ${data.names[group]}`);
    return line;
  });
  tip.replaceChildren(head, ...lines);
  // Beside the pointer, and inside the window.
  const box = u.over.getBoundingClientRect();
  const x = box.left + u.cursor.left;
  const y = box.top + u.cursor.top;
  const right = innerWidth - tip.offsetWidth - 8;
  const fits = y + 16 + tip.offsetHeight < innerHeight;
  tip.style.left = Math.max(0, Math.min(x + 14, right)) + 'px';
  tip.style.top = (fits ? y + 16 : y - tip.offsetHeight - 10) + 'px';
  tip.style.visibility = 'visible';
}

// --- Samples over time ----------------------------------------------------

const slider = document.querySelector('.time input');
if (slider) {
  const show = () => {
    const step = data.times[slider.value];
    slider.setAttribute('aria-valuetext', 'step ' + step);
    document.querySelector('.time output').textContent =
      'step ' + inEnglish(step);
    for (const figure of all('.shots figure')) {
      const pictures = all('img', figure);
      if (!pictures.length) continue;
      // The last that the run had by then, else its first.
      const past = pictures.filter(p => +p.dataset.step <= step);
      const now = past.length ? past[past.length - 1] : pictures[0];
      for (const picture of pictures) picture.hidden = picture !== now;
      figure.querySelector('.at').textContent = inEnglish(now.dataset.step);
    }
  };
  slider.oninput = show;
  slider.disabled = false;
  show();
}
