// The run, unpacked. Times in ms unless a name says otherwise.
const D = JSON.parse(document.getElementById('run').textContent);
const $ = id => document.getElementById(id);
const esc = text => String(text).replace(/[&<>"]/g, c => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' }[c]));
const clamp = (x, low, high) => Math.max(low, Math.min(high, x));
const DARK = -1, RIGHT = 0, CHANGING = 1;

const unroll = (runs, length) => {
  const line = new Uint32Array(length);
  for (let i = 0, at = 0; i < runs.length; i += 2) { line.fill(runs[i], at, at + runs[i + 1]); at += runs[i + 1]; }
  return line;
};
const grow = steps => { let sum = 0; return steps.map(step => (sum += step)); };
// Index of the last entry of `list` that is at or below `x`; -1 if none is.
const lastAtOrBelow = (list, x) => {
  let low = 0, high = list.length;
  while (low < high) { const mid = (low + high) >> 1; if (list[mid] <= x) low = mid + 1; else high = mid; }
  return low - 1;
};

const heat = D.heat;
const phantom = heat.phantom.map(runs => unroll(runs, heat.cols));
const missing = heat.missing.map(runs => unroll(runs, heat.cols));
const members = heat.members.map(runs => unroll(runs, heat.cols));
const columnAt = t => clamp(Math.floor(t / heat.dt), 0, heat.cols - 1);

const msgs = D.msgs;
const sent = grow(msgs.sent).map(us => us / 1000);
const isCause = new Uint8Array(sent.length);
msgs.cone.forEach(at => { isCause[at] = 1; });
const bundleSlices = Math.ceil(D.end / D.bundles.dt) + 1;
const pairs = D.bundles.pairs.map(([from, to, arrived, lost]) =>
  ({ from, to, arrived: unroll(arrived, bundleSlices), lost: unroll(lost, bundleSlices) }));

const rowOf = new Uint16Array(D.n);
D.order.forEach((node, row) => { rowOf[node] = row; });
const groupOf = new Uint16Array(D.n);
D.groups.forEach((group, index) => group.nodes.forEach(node => { groupOf[node] = index; }));

// Segments of a flat list [time, value, time, value, ...].
const segments = (flat, stride = 2) => {
  const out = [];
  for (let i = 0; i < flat.length; i += stride) {
    out.push({ a: flat[i], b: i + stride < flat.length ? flat[i + stride] : D.end, k: flat[i + 1], epoch: flat[i + 2] });
  }
  return out;
};
const sights = D.sights.map(flat => segments(flat));
const lives = D.lives.map(flat => segments(flat, 3));
const segmentAt = (list, t) => {
  let found = null;
  for (const it of list) { if (it.a <= t) found = it; else break; }
  return found;
};
const sightAt = (node, t) => { const it = segmentAt(sights[node], t); return it ? it.k : DARK; };
const lifeAt = (node, t) => segmentAt(lives[node], t);
const sightClass = k => k === DARK ? 'dark' : k === RIGHT ? 'right' : k === CHANGING ? 'changing' : k === 2 ? 'other' : 'view' + (k - 3);

// Numbers as people say them.
const RUNS_MAX = 6, RUNS_SHOWN = 3;
const runText = nodes => runList(nodes, Infinity);
const runList = (nodes, most = RUNS_MAX) => {
  const sorted = [...nodes].sort((a, b) => a - b), parts = [];
  let shown = 0;
  for (let i = 0; i < sorted.length;) {
    let j = i;
    while (j + 1 < sorted.length && sorted[j + 1] === sorted[j] + 1) j++;
    parts.push(j > i ? sorted[i] + '\u2013' + sorted[j] : '' + sorted[i]);
    if (parts.length <= RUNS_SHOWN) shown = j + 1;
    i = j + 1;
  }
  // Nobody reads fifty numbers in a sentence.
  if (parts.length > most) parts.splice(RUNS_SHOWN, parts.length, `${sorted.length - shown} more`);
  return parts.length > 1 ? parts.slice(0, -1).join(', ') + ' and ' + parts[parts.length - 1] : parts[0] || 'nobody';
};
// Nodes in a text of runs, such as "0\u20132, 5".
const inRuns = text => {
  const all = [];
  for (const part of text.match(/\d+(\u2013\d+)?/g) || []) { const [a, b] = part.split('\u2013').map(Number); for (let i = a; i <= (b ?? a); i++) all.push(i); }
  return all;
};
const theNodes = nodes => (nodes.length === 1 ? 'Node ' : 'Nodes ') + runList(nodes);
const brief = ms => ms < 1000 ? Math.round(ms) + ' ms' : ms < 120000 ? +(ms / 1000).toFixed(1) + ' s' : +(ms / 60000).toFixed(1) + ' min';
const isActive = (fault, t) => fault.a <= t && (t < fault.b || fault.b >= D.end);
const clock = (t, digits = 1) => {
  const s = t / 1000;
  if (D.end < 180000) return s.toFixed(digits) + ' s';
  return Math.floor(s / 60) + ':' + (s % 60).toFixed(digits).padStart(digits ? 3 + digits : 2, '0');
};

// Beliefs at a time, by replaying changes from the nearest of some stored states.
const beliefs = (() => {
  const C = D.changes;
  if (!C) return null;
  const at = grow(C.t), n = D.n, every = 4000, stored = [];
  let state = new Uint8Array(n * n);
  for (let i = 0; i < at.length; i++) {
    if (i % every === 0) stored.push(state.slice());
    apply(state, i);
  }
  // 0 unknown, 1 member, 2 held for down, 3 left.
  function apply(state, i) {
    const node = C.node[i], about = C.about[i];
    if (node === about) { state.fill(0, node * n, node * n + n); state[node * n + node] = C.to[i] ? 1 : 0; }
    else state[node * n + about] = C.to[i] === 1 ? 1 : C.to[i] === 2 ? 3 : 2;
  }
  return t => {
    const count = lastAtOrBelow(at, t) + 1, from = Math.min(Math.floor(count / every), stored.length - 1);
    const state = from < 0 ? new Uint8Array(n * n) : stored[from].slice();
    for (let i = Math.max(from, 0) * every; i < count; i++) apply(state, i);
    return state;
  };
})();
