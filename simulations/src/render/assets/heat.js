// The heat map and the curves.
const worst = plane => plane.reduce((most, line) => line.reduce((a, b) => Math.max(a, b), most), 0);
const heatMax = { missing: Math.max(worst(missing), 1), phantom: Math.max(worst(phantom), 1) };
const depth = (value, most) => value ? 0.28 + 0.72 * Math.log1p(value) / Math.log1p(most) : 0;

// Rows of the picture: each the worst of the nodes that share it.
const pooled = (() => {
  const rows = Math.min(D.n, 264), cols = heat.cols;
  const pool = plane => Array.from({ length: rows }, (_, row) => {
    const from = Math.floor(row * D.n / rows), to = Math.max(Math.floor((row + 1) * D.n / rows), from + 1);
    if (to - from === 1) return plane[D.order[from]];
    const line = new Uint32Array(cols);
    for (let i = from; i < to; i++) plane[D.order[i]].forEach((value, c) => { if (value > line[c]) line[c] = value; });
    return line;
  });
  return { missing: pool(missing), phantom: pool(phantom) };
})();

function paintHeat(canvas) {
  const style = getComputedStyle(document.documentElement), ratio = Math.min(window.devicePixelRatio || 1, 2);
  canvas.width = L.inner * ratio; canvas.height = L.heatHeight * ratio;
  Object.assign(canvas.style, { left: L.left + 'px', top: L.heatTop + 'px', width: L.inner + 'px', height: L.heatHeight + 'px' });
  const g = canvas.getContext('2d');
  const colour = { missing: style.getPropertyValue('--missing').trim(), phantom: style.getPropertyValue('--phantom').trim() };
  g.fillStyle = style.getPropertyValue('--heat-ground').trim();
  g.fillRect(0, 0, canvas.width, canvas.height);
  const rows = pooled.missing.length, rowPx = canvas.height / rows, gap = rowPx >= 8 * ratio ? ratio : 0;
  const first = clamp(Math.floor(view.a / heat.dt), 0, heat.cols), last = clamp(Math.ceil(view.b / heat.dt), 0, heat.cols);
  const px = c => (c * heat.dt - view.a) / (view.b - view.a) * canvas.width;
  const paint = (line, kind, y, h) => {
    g.fillStyle = colour[kind];
    for (let c = first; c < last;) {
      const value = line[c];
      let stop = c + 1;
      while (stop < last && line[stop] === value) stop++;
      if (value) { g.globalAlpha = depth(value, heatMax[kind]); const from = Math.floor(px(c)); g.fillRect(from, y, Math.max(Math.ceil(px(stop)) - from, ratio), h); }
      c = stop;
    }
    g.globalAlpha = 1;
  };
  for (let row = 0; row < rows; row++) {
    const y = row * rowPx, h = Math.max(rowPx - gap, 0.8);
    paint(pooled.missing[row], 'missing', y, h);
    // A phantom is worse than a gap: it covers the lower half of the row.
    paint(pooled.phantom[row], 'phantom', rowPx >= 3 ? y + h * 0.5 : y, rowPx >= 3 ? h * 0.5 : h);
  }
}

function drawHeatFrame() {
  let out = `<rect class="frame" x="${L.left}" y="${L.heatTop}" width="${L.inner}" height="${L.heatHeight}"/>`;
  const wide = L.rowPx >= 11;
  if (wide) D.order.forEach((node, row) => { out += `<text class="sub" x="${L.left - (L.narrow ? 6 : 10)}" y="${num(L.heatTop + (row + 0.5) * L.rowPx + 3.5)}" text-anchor="end">${node}</text>`; });
  else {
    let row = 0;
    for (const group of D.groups) {
      const y = L.heatTop + row * L.rowPx;
      if (row) out += `<path class="rule" d="M${L.left - 6} ${num(y)}H${L.left + L.inner}"/>`;
      out += `<text class="sub" x="${L.left - (L.narrow ? 6 : 10)}" y="${num(y + group.nodes.length * L.rowPx / 2 + 4)}" text-anchor="end">${esc(laneLabel(group))}</text>`;
      row += group.nodes.length;
    }
  }
  return out + heading(L.heatTop - 12, 'What each node has wrong', '', [['producers it misses', 'missing'], ['producers it lists that are gone', 'phantom']]);
}

// A heading, what it means, and two coloured words where they fit.
function heading(y, text, note, keys = []) {
  let out = `<text class="heading" x="${L.left}" y="${y}">${text}<tspan class="sub" dx="9">${note}</tspan></text>`;
  if (L.narrow) return out;
  let at = L.left + L.inner;
  for (const [word, kind] of [...keys].reverse()) {
    at -= word.length * 5.9 + 16;
    out += `<rect class="key ${kind}" x="${num(at)}" y="${y - 9}" width="10" height="10" rx="2"/><text class="sub" x="${num(at + 15)}" y="${y}">${word}</text>`;
    at -= 18;
  }
  return out;
}

const human = v => v >= 1e6 ? num(v / 1e6) + ' MB' : v >= 1e3 ? num(v / 1e3) + ' kB' : v + ' B';
// A round number at or above the most that a curve reaches.
const roundUp = v => { const unit = 10 ** Math.floor(Math.log10(Math.max(v, 1))); return [1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10].map(m => m * unit).find(r => r >= v); };
const curveMax = { agreement: 1000, members: D.n, bytes: roundUp(heat.bytes.reduce((a, b) => Math.max(a, b), 1)) };
const CURVES = {
  agreement: { name: 'Agreement', note: 'how many beliefs about others are right', top: '100 %', now: c => num(heat.agreement[c] / 10) + ' %' },
  members: { name: 'Members seen', note: D.n > 60 ? 'by the node that sees least, the middle one, and most' : 'by each node, itself included', top: '' + D.n, now: () => '' },
  bytes: { name: 'Traffic', note: 'sent per node and second', top: human(curveMax.bytes), now: c => human(heat.bytes[c]) + '/s' },
};

function stepPath(values, most, curve, area) {
  const first = clamp(Math.floor(view.a / heat.dt), 0, heat.cols - 1), last = clamp(Math.ceil(view.b / heat.dt), 0, heat.cols);
  const y = v => num(curve.top + curve.height * (1 - Math.min(v / most, 1)));
  let d = '', before = null;
  for (let c = first; c < last; c++) {
    const px = num(clamp(x(c * heat.dt), L.left, L.left + L.inner));
    if (before === null) d += `M${px} ${y(values[c])}`; else if (values[c] !== before) d += `H${px}V${y(values[c])}`;
    before = values[c];
  }
  const end = num(clamp(x(last * heat.dt), L.left, L.left + L.inner)), start = num(clamp(x(first * heat.dt), L.left, L.left + L.inner));
  d += `H${end}`;
  return area ? d + `V${curve.top + curve.height}H${start}Z` : d;
}

function drawCurves() {
  let out = '';
  for (const curve of L.curves) {
    const what = CURVES[curve.key], bottom = curve.top + curve.height;
    out += heading(curve.top - 10, what.name, what.note);
    out += `<path class="rule" d="M${L.left} ${bottom}H${L.left + L.inner}"/><path class="rule faint" d="M${L.left} ${curve.top}H${L.left + L.inner}"/><text class="sub" x="${L.left - (L.narrow ? 6 : 10)}" y="${curve.top + 4}" text-anchor="end">${what.top}</text><text class="sub" x="${L.left - (L.narrow ? 6 : 10)}" y="${bottom}" text-anchor="end">0</text>`;
    if (!heat.cols) continue;
    if (curve.key === 'members') {
      if (D.n > 200) members.forEach((line, i) => { out += `<path class="line spread${i}" d="${stepPath(line, D.n, curve)}"/>`; });
      else {
        const same = new Map();
        members.forEach(line => { const d = stepPath(line, D.n, curve); same.set(d, (same.get(d) || 0) + 1); });
        const faint = same.size > 12 ? ' faint' : '';
        same.forEach((count, d) => { out += `<path class="line members${faint}" d="${d}"/>`; });
      }
    } else {
      const values = heat[curve.key];
      out += `<path class="area ${curve.key}" d="${stepPath(values, curveMax[curve.key], curve, true)}"/><path class="line ${curve.key}" d="${stepPath(values, curveMax[curve.key], curve)}"/>`;
    }
  }
  return out;
}
