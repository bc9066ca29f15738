// The picture: one SVG for lanes and curves over one canvas for the heat map, both on one time axis.
const view = { a: 0, b: D.end };
let cursor = 0;
let L; // layout of the moment

const STEPS = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 2e4, 3e4, 6e4, 12e4, 3e5, 6e5, 18e5, 36e5];
const x = t => L.left + (t - view.a) / (view.b - view.a) * L.inner;
const timeAt = px => view.a + (px - L.left) / L.inner * (view.b - view.a);
const seen = (a, b) => b >= view.a && a <= view.b;
const span = (a, b) => { const from = clamp(x(a), L.left, L.left + L.inner), to = clamp(x(b), L.left, L.left + L.inner); return [from, Math.max(to - from, 0)]; };
const num = v => Math.round(v * 10) / 10;

// Rows for causes, such that none covers another; the faults of one cause share a row.
const faultRows = (() => {
  const ends = [], causes = new Map();
  D.faults.forEach(fault => {
    const key = fault.g + ' ' + fault.c, cause = causes.get(key);
    if (cause) { cause.faults.push(fault); cause.a = Math.min(cause.a, fault.a); cause.b = Math.max(cause.b, fault.b); }
    else causes.set(key, { faults: [fault], a: fault.a, b: fault.b });
  });
  [...causes.values()].sort((one, other) => one.a - other.a).forEach(cause => {
    const stop = Math.max(cause.b, cause.a + D.end / 12);
    let row = ends.findIndex(end => end <= cause.a);
    if (row < 0) { row = ends.length; ends.push(0); }
    ends[row] = stop;
    // The last is named for all: there is room behind it.
    const last = cause.faults.reduce((one, other) => other.b > one.b ? other : one);
    cause.faults.forEach(fault => { fault.row = row; fault.times = cause.faults.length; fault.names = fault === last; });
  });
  return ends.length;
})();

function layout(width) {
  const narrow = width < 600, n = D.n;
  const lanes = D.grouped ? (n > 400 && D.groups.length < 2 ? [] : D.groups) : D.order.map(node => ({ label: '' + node, nodes: [node] }));
  const pitch = D.grouped ? 66 : n <= 6 ? (narrow ? 42 : 50) : n <= 12 ? 36 : n <= 24 ? 24 : 14;
  const longest = Math.max(...lanes.map(lane => lane.label.length), 1);
  const left = D.grouped ? clamp(longest * 6.6 + 16, narrow ? 62 : 78, narrow ? 62 : 130) : narrow ? 44 : 62;
  const right = narrow ? 6 : 14;
  const rowHeight = faultRows > 8 ? 7 : faultRows > 4 ? 16 : 21;
  const shownRows = Math.min(faultRows, 40);
  const L = { width, narrow, left, inner: width - left - right, lanes, pitch, rowHeight };
  let y = 22;
  L.faultTop = y; y += shownRows * rowHeight + (shownRows ? 10 : 0);
  L.axisTop = y; y += 20;
  L.laneTop = y; L.laneHeight = lanes.length * pitch; y += L.laneHeight;
  L.bar = D.grouped ? pitch - 18 : Math.min(16, Math.max(6, pitch * 0.38));
  if (lanes.length) y += 40; else y += 20;
  L.heatTop = y;
    L.rowPx = n <= 12 ? 16 : n <= 24 ? 11 : n <= 60 ? 6 : n <= 110 ? 2.4 : 264 / n;
  L.heatHeight = Math.round(n * L.rowPx); y += L.heatHeight + 40;
  L.curves = ['agreement', 'members', 'bytes'].map(key => { const top = y; y += (narrow ? 58 : 64) + 34; return { key, top, height: narrow ? 58 : 64 }; });
  L.axisBottom = y - 28; L.height = y - 4;
  return L;
}

// Names of groups are lists of nodes if nobody gave them better ones; the first few will do.
const laneLabel = lane => {
  const most = L.narrow ? 8 : 17;
  if (lane.label.length <= most) return lane.label;
  const cut = lane.label.lastIndexOf(',', most - 2);
  return (cut > 2 ? lane.label.slice(0, cut) : lane.label.slice(0, most - 2)) + ', \u2026';
};
const laneY = row => L.laneTop + row * L.pitch + L.pitch / 2;

function ticks() {
  const width = view.b - view.a, least = width / L.inner * (L.narrow ? 62 : 88);
  const step = STEPS.find(step => step >= least) || 36e5;
  const digits = step >= 1000 ? 0 : step >= 100 ? 1 : step >= 10 ? 2 : step >= 1 ? 3 : 4;
  const out = [];
  for (let i = Math.ceil(view.a / step - 1e-9); i * step <= view.b + 1e-9; i++) out.push({ t: i * step, text: clock(i * step, digits) });
  return out;
}

function drawAxes() {
  let grid = '', text = '';
  for (const tick of ticks()) {
    const px = num(x(tick.t));
    grid += `M${px} ${L.laneTop - 4}V${L.axisBottom - 8}`;
    const anchor = px > L.left + L.inner - 18 ? 'end' : px < L.left + 8 ? 'start' : 'middle';
    text += `<text x="${px}" y="${L.axisTop + 11}" text-anchor="${anchor}">${tick.text}</text><text x="${px}" y="${L.axisBottom + 8}" text-anchor="${anchor}">${tick.text}</text>`;
  }
  return `<path class="grid" d="${grid}"/><g class="tick">${text}</g>`;
}

function drawFaults() {
  let behind = '', labels = '';
  const busy = {}, edged = new Set();
  for (const fault of D.faults) {
    if (!seen(fault.a, fault.b)) continue;
    const [from, width] = span(fault.a, fault.b), lasts = fault.b > fault.a;
    const y = L.faultTop + fault.row * L.rowHeight, h = L.rowHeight - 4;
    const w = Math.max(width, lasts ? 2 : 3);
    labels += `<g class="fault ${fault.c}"><title>${esc(fault.text)} (${clock(fault.a)}${lasts ? ' to ' + clock(fault.b) : ''})</title><rect x="${num(from)}" y="${y}" width="${num(w)}" height="${h}" rx="3"/>`;
    if (L.rowHeight > 12 && fault.names) {
      const label = fault.label + (fault.times > 1 ? ` \u00d7 ${fault.times}` : '');
      const long = label + (lasts && fault.times === 1 ? ' \u00b7 ' + brief(fault.b - fault.a) : ''), key = 'row' + fault.row;
      const text = width > long.length * 6.6 + 12 ? long : label, room = text.length * 6.4 + 10;
      const inside = width > room, xText = inside ? from + 7 : from + w + 5;
      if (inside || xText + room < L.left + L.inner && !(busy[key] > xText)) {
        labels += `<text class="${inside ? 'in' : 'out'}" x="${num(xText)}" y="${y + h / 2 + 4}">${esc(text)}</text>`;
        busy[key] = xText + room;
      }
    }
    labels += '</g>';
    // The band behind: all lanes for a cut, the lanes of its nodes for others.
    if (!L.lanes.length) continue;
    if (fault.nodes.length === 0) {
      behind += `<rect class="band ${fault.c}" x="${num(from)}" y="${L.laneTop}" width="${num(w)}" height="${L.laneHeight}"/>`;
    } else if (!D.grouped) {
      for (const node of fault.nodes) behind += `<rect class="band ${fault.c}" x="${num(from)}" y="${num(laneY(rowOf[node]) - L.pitch / 2 + 1)}" width="${num(w)}" height="${L.pitch - 2}"/>`;
    }
    // Where links are cut, the space between two lanes is hatched.
    fault.gaps.forEach((gap, lane) => {
      if (!gap || width < 2) return;
      const top = laneY(lane) + L.bar / 2 + 2, bottom = laneY(lane + 1) - L.bar / 2 - 2;
      if (bottom - top < 3) return;
      behind += `<rect class="hatch" x="${num(from)}" y="${num(top)}" width="${num(width)}" height="${num(bottom - top)}" fill="url(#${gap === 1 ? 'cut' : gap === 2 ? 'cut-down' : 'cut-up'})"/>`;
    });
    const edges = `M${num(x(fault.a))} ${y + h}V${L.axisBottom - 8}` + (lasts && fault.b < D.end ? `M${num(x(fault.b))} ${y + h}V${L.axisBottom - 8}` : '');
    if (D.faults.length <= 24 && !edged.has(edges) && edged.add(edges)) behind += `<path class="edge ${fault.c}" d="${edges}"/>`;
  }
  return [behind, labels];
}

// Messages in sum: threads between lanes; those that were lost end early.
function drawBundles(skip) {
  if (!L.lanes.length || !pairs.length) return '';
  const B = D.bundles, perNode = B.width === D.n && !D.grouped;
  const centres = perNode ? null : D.groups.map(group => D.grouped ? laneY(groupOf[group.nodes[0]]) : group.nodes.reduce((sum, node) => sum + laneY(rowOf[node]), 0) / group.nodes.length);
  const yOf = end => perNode ? laneY(rowOf[end]) : centres[end];
  const first = clamp(Math.floor(view.a / B.dt), 0, bundleSlices - 1), last = clamp(Math.ceil(view.b / B.dt), 0, bundleSlices - 1);
  const slicePx = B.dt / (view.b - view.a) * L.inner, every = Math.max(1, Math.ceil((L.narrow ? 4 : 3.4) / slicePx));
  const levels = ['', '', '', ''], lost = ['', ''];
  const most = pairs.reduce((most, pair) => Math.max(most, pair.arrived.reduce((a, b) => Math.max(a, b), 0)), 1) * Math.sqrt(every);
  pairs.forEach((pair, index) => {
    const ya = yOf(pair.from), yb = yOf(pair.to), down = yb > ya ? 1 : -1, off = L.bar / 2;
    const shift = (index * 0.618034) % 1;
    for (let s = first - first % every; s <= last; s += every) {
      const middle = (s + every / 2) * B.dt;
      if (skip && skip(middle)) continue;
      let came = 0, gone = 0;
      for (let i = s; i < Math.min(s + every, bundleSlices); i++) { came += pair.arrived[i]; gone += pair.lost[i]; }
      if (!came && !gone) continue;
      const px = num(x((s + every * shift) * B.dt));
      if (px < L.left || px > L.left + L.inner) continue;
      if (came) levels[clamp(Math.floor(Math.sqrt(came / most) * 4), 0, 3)] += `M${px} ${num(ya + down * off)}L${px} ${num(yb - down * off)}`;
      if (gone) lost[gone > 3 ? 1 : 0] += `M${px} ${num(ya + down * off)}L${px} ${num(ya + down * (off + Math.min(Math.abs(yb - ya) * 0.4, 16)))}`;
    }
  });
  // Where many pairs share a gap, each thread is fainter.
  const faint = perNode ? clamp(26 / pairs.length, 0.3, 1) : 1;
  return `<g opacity="${faint}">` + levels.map((d, level) => d && `<path class="thread t${level}" d="${d}"/>`).join('') + '</g>' + lost.map((d, level) => d && `<path class="lost l${level}" d="${d}"/>`).join('');
}

// Where a message that was cut off ends: at the first hatched gap on its way.
function tearY(from, to, t) {
  const step = to > from ? 1 : -1;
  for (let row = from; row !== to; row += step) {
    const gap = step > 0 ? row : row - 1;
    const torn = D.faults.some(fault => isActive(fault, t) && (fault.gaps[gap] === 1 || fault.gaps[gap] === (step > 0 ? 2 : 3)));
    if (torn) return laneY(gap) + L.pitch / 2;
  }
  return null;
}

// Windows in which single messages are known.
const windows = D.windows ? segments(D.windows).map(it => ({ a: it.a, b: it.k })) : [{ a: 0, b: D.end }];
const ARROWS_MAX = 1600;
let arrows = [];

// Messages that led to a broken rule show at every zoom.
function drawCauses() {
  let d = '';
  const scale = L.inner / (view.b - view.a);
  for (const i of msgs.cone) {
    const xa = x(sent[i]), ya = laneY(rowOf[msgs.from[i]]), yb = laneY(rowOf[msgs.to[i]]);
    if (xa < L.left || xa > L.left + L.inner || view.b - sent[i] > 5000) continue;
    d += `M${num(xa)} ${num(ya)}L${num(xa + msgs.took[i] / 1000 * scale)} ${num(yb)}`;
  }
  return d && `<path class="arrow cause" d="${d}"/>`;
}

function drawMessages() {
  arrows = [];
  if (!L.lanes.length || D.grouped) return drawBundles();
  const first = lastAtOrBelow(sent, view.a - 500) + 1, last = lastAtOrBelow(sent, view.b);
  const covered = windows.some(it => seen(it.a, it.b));
  const density = (last - first + 1) / L.inner;
  const fine = covered && last - first < ARROWS_MAX && (density < 0.35 || view.b - view.a < 2500);
  const note = !covered && view.b - view.a < 5000 ? `<text class="sub" x="${L.left + 6}" y="${L.laneTop + 9}">Single messages were kept around faults only.</text>` : '';
  if (!fine) return drawBundles() + drawCauses() + note;
  const within = t => windows.some(it => t >= it.a && t <= it.b);
  let plain = '', gossip = '', cause = '', lost = '', heads = '', crosses = '', starts = '';
  const scale = L.inner / (view.b - view.a);
  for (let i = first; i <= last; i++) {
    const xa = x(sent[i]), ya0 = laneY(rowOf[msgs.from[i]]), yb0 = laneY(rowOf[msgs.to[i]]);
    const down = yb0 > ya0 ? 1 : -1, ya = ya0 + down * L.bar / 2, yb = yb0 - down * L.bar / 2;
    let xb = xa + msgs.took[i] / 1000 * scale;
    const fate = msgs.fate[i];
    if (xa >= L.left) starts += `M${num(xa)} ${num(ya)}h0`;
    if (xb < L.left || xa > L.left + L.inner || xa < L.left - 400) continue;
    if (fate) {
      const torn = tearY(rowOf[msgs.from[i]], rowOf[msgs.to[i]], sent[i]), ye = torn === null ? ya + (yb - ya) * 0.42 : torn;
      const xe = xa + Math.min((xb - xa) * 0.42, 24);
      lost += `M${num(xa)} ${num(ya)}L${num(xe)} ${num(ye)}`;
      crosses += `M${num(xe - 3)} ${num(ye - 3)}l6 6m0 -6l-6 6`;
      arrows.push({ i, xa, ya, xb: xe, yb: ye });
      continue;
    }
    const d = `M${num(xa)} ${num(ya)}L${num(xb)} ${num(yb)}`;
    if (isCause[i]) cause += d; else if (/ping|ack|probe/i.test(msgs.kinds[msgs.kind[i]])) plain += d; else gossip += d;
    const angle = Math.atan2(yb - ya, xb - xa), s = 5;
    heads += `M${num(xb)} ${num(yb)}L${num(xb - s * Math.cos(angle - 0.42))} ${num(yb - s * Math.sin(angle - 0.42))}L${num(xb - s * Math.cos(angle + 0.42))} ${num(yb - s * Math.sin(angle + 0.42))}Z`;
    arrows.push({ i, xa, ya, xb, yb });
  }
  return (D.windows ? drawBundles(within) : '') +
    `<path class="arrow gossip" d="${gossip}"/><path class="arrow probe" d="${plain}"/><path class="start" d="${starts}"/><path class="head" d="${heads}"/><path class="arrow cause" d="${cause}"/><path class="arrow gone" d="${lost}"/><path class="arrow gone" d="${crosses}"/>`;
}

function drawLanes() {
  let out = '';
  L.lanes.forEach((lane, row) => {
    const y = laneY(row);
    if (D.grouped) {
      out += `<text class="lane" x="${L.left - 8}" y="${y - 2}" text-anchor="end">${esc(laneLabel(lane))}<title>${esc(lane.label)}</title></text><text class="sub" x="${L.left - 8}" y="${y + 12}" text-anchor="end">${lane.nodes.length} nodes</text>` + drawStack(row, y);
      return;
    }
    const node = lane.nodes[0];
    if (L.pitch > 12) out += `<text class="lane" x="${L.left - 10}" y="${y + 4}" text-anchor="end">${L.narrow || L.pitch < 20 ? '' : 'node '}${node}</text>`;
    out += drawBar(node, y);
  });
  return out;
}

function drawBar(node, y) {
  let out = '';
  const top = y - L.bar / 2, big = L.bar > 12;
  out += `<path class="nothing" d="M${L.left} ${y}H${L.left + L.inner}"/>`;
  for (const it of sights[node]) {
    if (it.k === DARK || !seen(it.a, it.b)) continue;
    const [from, width] = span(it.a, it.b);
    if (width < 0.2) continue;
    out += `<rect class="bar ${sightClass(it.k)}" x="${num(from)}" y="${top}" width="${num(width + 0.3)}" height="${L.bar}"/>`;
    const text = it.k === RIGHT ? '' : it.k >= 3 ? 'lists ' + D.views[it.k - 3].text : '';
    if (text && big && width > text.length * 5.9 + 12) out += `<text class="on ${sightClass(it.k)}" x="${num(from + 7)}" y="${y + 4}">${esc(text)}</text>`;
  }
  lives[node].forEach((it, index) => {
    if (!seen(it.a, it.b)) return;
    const [from, width] = span(it.a, it.b), px = num(x(it.a)), inside = it.a >= view.a && it.a <= view.b;
    if (it.k === 3) out += `<rect class="still" x="${num(from)}" y="${top}" width="${num(width)}" height="${L.bar}" fill="url(#still)"><title>Node ${node} stands still</title></rect>`;
    if (!inside) return;
    const r = L.bar / 2;
    if (it.k === 1) out += `<g class="born"><title>Node ${node} starts, epoch ${it.epoch}</title><circle cx="${px}" cy="${y}" r="${Math.min(r * 0.62, 5)}"/></g>`;
    if (it.k === 0 && index) out += `<g class="died"><title>Node ${node} is killed</title><path d="M${px - r * 0.7} ${y - r * 0.7}l${r * 1.4} ${r * 1.4}m0 ${-r * 1.4}l${-r * 1.4} ${r * 1.4}"/></g>`;
    if (it.k === 2) out += `<g class="left"><title>Node ${node} leaves</title><path d="M${px} ${top - 2}v${L.bar + 4}"/></g>`;
  });
  return out;
}

// For groups: how many of the nodes see what, stacked.
const STACK_COLUMNS = 400;
const stacks = D.grouped ? D.groups.map(group => {
  const kinds = D.views.length + 4, counts = Array.from({ length: kinds }, () => new Uint16Array(STACK_COLUMNS));
  for (const node of group.nodes) {
    for (const it of sights[node]) {
      const to = Math.min(STACK_COLUMNS, Math.ceil(it.b / D.end * STACK_COLUMNS));
      for (let c = Math.ceil(it.a / D.end * STACK_COLUMNS); c < to; c++) counts[it.k + 1][c]++;
    }
  }
  return counts;
}) : [];

function drawStack(row, y) {
  const counts = stacks[row], total = D.groups[row].nodes.length, top = y - L.bar / 2;
  const order = [1, ...D.views.map((_, i) => i + 4), 3, 2];
  const base = new Float64Array(STACK_COLUMNS);
  let out = `<rect class="frame" x="${L.left}" y="${top}" width="${L.inner}" height="${L.bar}"/>`;
  const step = D.end / STACK_COLUMNS;
  for (const k of order) {
    let d = '';
    for (let c = 0; c < STACK_COLUMNS; c++) {
      const count = counts[k][c];
      if (!count) continue;
      let stop = c + 1;
      while (stop < STACK_COLUMNS && counts[k][stop] === count && base[stop] === base[c]) stop++;
      if (seen(c * step, stop * step)) {
        const [from, width] = span(c * step, stop * step);
        d += `M${num(from)} ${num(top + L.bar * (1 - (base[c] + count) / total))}h${num(width + 0.3)}v${num(L.bar * count / total)}h${-num(width + 0.3)}z`;
      }
      for (let i = c; i < stop; i++) base[i] += count;
      c = stop - 1;
    }
    if (d) out += `<path class="bar ${sightClass(k - 1)}" d="${d}"/>`;
  }
  return out;
}
