// Hands: mouse, touch, keyboard, buttons.
const plots = $('plots'), svg = $('picture'), canvas = $('heat'), scrub = $('scrub'), hint = $('hint');
let frame = 0, width = 0, playing = 0;

const DEFS = `<defs>
<pattern id="cut" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><path class="stroke-cut" d="M0 0V6"/></pattern>
<pattern id="cut-down" width="10" height="8" patternUnits="userSpaceOnUse"><path class="stroke-cut thin" d="M2 1l3 4l3 -4"/></pattern>
<pattern id="cut-up" width="10" height="8" patternUnits="userSpaceOnUse"><path class="stroke-cut thin" d="M2 6l3 -4l3 4"/></pattern>
<pattern id="still" width="5" height="5" patternUnits="userSpaceOnUse"><path class="stroke-still" d="M0 2.5H5"/></pattern></defs>`;

function draw() {
  frame = 0;
  width = plots.clientWidth;
  L = layout(width);
  svg.setAttribute('viewBox', `0 0 ${L.width} ${L.height}`);
  svg.setAttribute('width', L.width); svg.setAttribute('height', L.height);
  const [behind, labels] = drawFaults();
  const broken = D.broken && seen(D.broken.t, D.broken.t) ? `<g class="broken"><path d="M${num(x(D.broken.t))} ${L.faultTop}V${L.axisBottom - 8}"/><text x="${num(x(D.broken.t) - 6)}" y="${L.laneTop + L.laneHeight + 12}" text-anchor="end">${esc(D.broken.rule)} breaks here</text>` +
    (D.grouped || !L.lanes.length || D.broken.node === null ? '' : `<circle cx="${num(x(D.broken.t))}" cy="${laneY(rowOf[D.broken.node])}" r="${L.bar * 0.8}"/>`) + '</g>' : '';
  svg.innerHTML = DEFS + `<g>${(D.faults.length ? `<text class="heading" x="${L.left}" y="12">What was done to them</text>` : '')}</g>` + drawAxes() + behind + `<g>${drawMessages()}</g>` + drawLanes() + labels + drawHeatFrame() + drawCurves() + broken + '<g id="needle"></g>';
  paintHeat(canvas);
  drawNeedle();
  $('whole').disabled = view.a <= 0 && view.b >= D.end;
  $('near').disabled = view.b - view.a <= 2001;
}

function drawNeedle() {
  if (!L) return;
  const px = num(x(cursor)), inside = cursor >= view.a && cursor <= view.b, c = columnAt(cursor);
  let out = '';
  if (inside) {
    const label = clock(cursor, view.b - view.a < 5000 ? 3 : 1), half = label.length * 3.4 + 7, at = clamp(px, L.left + half, L.left + L.inner - half);
    out = `<path class="needle" d="M${px} ${L.axisTop + 16}V${L.axisBottom - 8}"/><rect class="flag" x="${num(at - half)}" y="${L.axisTop - 3}" width="${num(half * 2)}" height="19" rx="9.5"/><text class="flag" x="${num(at)}" y="${L.axisTop + 10.5}" text-anchor="middle">${label}</text>`;
    if (heat.cols) for (const curve of L.curves) {
      const text = CURVES[curve.key].now(c);
      if (text) out += `<text class="value" x="${num(clamp(px + 6, L.left, L.left + L.inner - text.length * 7 - 4))}" y="${curve.top + 14}">${text}</text>`;
    }
  }
  const needle = $('needle');
  if (needle) needle.innerHTML = out;
  scrub.value = cursor;
  scrub.setAttribute('aria-valuetext', clock(cursor, 1));
}

const later = () => { if (!frame) frame = requestAnimationFrame(draw); };
let nowFrame = 0;
function moveTo(t) {
  cursor = clamp(t, 0, D.end);
  drawNeedle();
  if (!nowFrame) nowFrame = requestAnimationFrame(() => { nowFrame = 0; drawNow(); markChapter(); });
}
function show(a, b) {
  const least = Math.min(5, D.end), size = clamp(b - a, least, D.end);
  const middle = (a + b) / 2;
  view.a = clamp(middle - size / 2, 0, D.end - size); view.b = view.a + size;
  later();
}
function zoom(factor, around = cursor) {
  const size = (view.b - view.a) * factor, share = clamp((around - view.a) / (view.b - view.a), 0, 1);
  show(around - share * size, around + (1 - share) * size);
}
const pan = share => show(view.a + share * (view.b - view.a), view.b + share * (view.b - view.a));
function follow() { if (cursor < view.a || cursor > view.b) { const size = view.b - view.a; show(cursor - size / 2, cursor + size / 2); } }

function markChapter() {
  let current = null;
  document.querySelectorAll('#story button').forEach(button => { button.parentNode.classList.remove('here'); if (+button.dataset.t <= cursor + 1) current = button; });
  if (current) current.parentNode.classList.add('here');
}

// Pointers: one drags (scrubs while all is shown, pans when zoomed), two pinch.
const pointers = new Map();
let grip = null;
const local = event => event.clientX - plots.getBoundingClientRect().left;
plots.addEventListener('pointerdown', event => {
  if (event.button) return;
  pointers.set(event.pointerId, local(event));
  stop();
  grip = { x: local(event), a: view.a, b: view.b, moved: false };
  if (pointers.size === 1 && view.b - view.a >= D.end && event.pointerType === 'mouse') moveTo(timeAt(local(event)));
});
window.addEventListener('pointermove', event => {
  if (!pointers.has(event.pointerId) || !grip) return hover(event);
  const before = [...pointers.values()];
  pointers.set(event.pointerId, local(event));
  const after = [...pointers.values()];
  if (after.length === 2) {
    const was = Math.abs(before[0] - before[1]) || 1, is = Math.abs(after[0] - after[1]) || 1;
    zoom(was / is, timeAt((after[0] + after[1]) / 2));
    grip.moved = true;
    return;
  }
  const dx = after[0] - grip.x;
  if (Math.abs(dx) > 4) grip.moved = true;
  if (!grip.moved) return;
  if (view.b - view.a >= D.end - 1) moveTo(timeAt(after[0]));
  else { const shift = dx / L.inner * (grip.b - grip.a); show(grip.a - shift, grip.b - shift); }
});
const release = event => {
  if (pointers.has(event.pointerId) && grip && !grip.moved && event.type === 'pointerup') moveTo(timeAt(local(event)));
  pointers.delete(event.pointerId);
  if (!pointers.size) grip = null;
};
window.addEventListener('pointerup', release);
window.addEventListener('pointercancel', release);
plots.addEventListener('dblclick', event => zoom(0.25, timeAt(local(event))));
plots.addEventListener('wheel', event => {
  if (event.ctrlKey || event.metaKey || event.altKey) { event.preventDefault(); zoom(Math.exp(event.deltaY * 0.003), timeAt(local(event))); }
  else if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) { event.preventDefault(); pan(event.deltaX / L.inner); }
}, { passive: false });

// What lies under the mouse.
function hover(event) {
  const box = plots.getBoundingClientRect(), px = event.clientX - box.left, py = event.clientY - box.top;
  let text = '';
  if (L && px > L.left && px < L.left + L.inner && py > 0 && py < L.height && !pointers.size) {
    let near = 6;
    for (const it of arrows) {
      const dx = it.xb - it.xa, dy = it.yb - it.ya, share = clamp(((px - it.xa) * dx + (py - it.ya) * dy) / (dx * dx + dy * dy || 1), 0, 1);
      const away = Math.hypot(px - it.xa - share * dx, py - it.ya - share * dy);
      if (away < near) {
        near = away;
        const i = it.i, fate = msgs.fate[i];
        text = `${msgs.kinds[msgs.kind[i]]}, ${msgs.from[i]} \u2192 ${msgs.to[i]}, ${msgs.size[i]} B: ${fate > 0 ? 'lost (' + msgs.reasons[fate - 1] + ')' : fate < 0 ? 'on its way' : 'arrived after ' + num(msgs.took[i] / 1000) + ' ms'}`;
      }
    }
    if (!text && py > L.heatTop && py < L.heatTop + L.heatHeight) {
      const node = D.order[clamp(Math.floor((py - L.heatTop) / L.rowPx), 0, D.n - 1)], c = columnAt(timeAt(px));
      text = `node ${node} at ${clock(c * heat.dt)}: misses ${missing[node][c]}, lists ${phantom[node][c]} that are gone`;
    }
  }
  hint.textContent = text;
  hint.hidden = !text;
  if (text) { hint.style.left = clamp(px, 90, width - 90) + 'px'; hint.style.top = py + 'px'; }
}
plots.addEventListener('pointerleave', () => { hint.hidden = true; });

plots.addEventListener('keydown', event => {
  const step = (view.b - view.a) / (event.shiftKey ? 10 : 100);
  const keys = {
    ArrowLeft: () => moveTo(cursor - step), ArrowRight: () => moveTo(cursor + step), Home: () => moveTo(0), End: () => moveTo(D.end),
    '+': () => zoom(0.6), '=': () => zoom(0.6), '-': () => zoom(1.6), 0: () => show(0, D.end), '[': () => pan(-0.2), ']': () => pan(0.2), ' ': toggle,
  };
  if (keys[event.key] && !event.ctrlKey && !event.metaKey) { event.preventDefault(); keys[event.key](); follow(); }
});

// Playing: the whole run in about twenty seconds, never faster than people can follow.
function stop() { cancelAnimationFrame(playing); playing = 0; $('play').setAttribute('aria-pressed', 'false'); $('play').textContent = 'Play'; }
function toggle() {
  if (playing) return stop();
  if (cursor >= D.end - 1) moveTo(view.a);
  $('play').setAttribute('aria-pressed', 'true'); $('play').textContent = 'Pause';
  let last = performance.now();
  const speed = (view.b - view.a) / 20000;
  const tick = time => {
    moveTo(cursor + (time - last) * speed);
    follow();
    last = time;
    if (cursor >= D.end) stop(); else playing = requestAnimationFrame(tick);
  };
  playing = requestAnimationFrame(tick);
}
$('play').addEventListener('click', toggle);
scrub.max = D.end;
scrub.addEventListener('input', () => { stop(); moveTo(+scrub.value); follow(); });
$('in').addEventListener('click', () => zoom(0.5));
$('out').addEventListener('click', () => zoom(2));
$('whole').addEventListener('click', () => show(0, D.end));
$('near').addEventListener('click', () => show(cursor - 1000, cursor + 1000));
document.querySelectorAll('#story button, .jump').forEach(button => button.addEventListener('click', () => { stop(); moveTo(+button.dataset.t); follow(); }));

// The picture as a file: styles go into it, and the canvas as an image.
function picture() {
  const copy = svg.cloneNode(true), style = getComputedStyle(document.documentElement);
  const rules = [...document.styleSheets].flatMap(sheet => [...sheet.cssRules]).filter(rule => rule.selectorText && rule.selectorText.includes('.picture')).map(rule => rule.cssText).join('\n').replace(/var\((--[\w-]+)\)/g, (_, name) => style.getPropertyValue(name).trim());
  const ground = document.createElementNS(svg.namespaceURI, 'rect');
  ground.setAttribute('width', '100%'); ground.setAttribute('height', '100%'); ground.setAttribute('fill', style.getPropertyValue('--ground').trim());
  const image = document.createElementNS(svg.namespaceURI, 'image');
  for (const [key, value] of Object.entries({ x: L.left, y: L.heatTop, width: L.inner, height: L.heatHeight, href: canvas.toDataURL('image/png') })) image.setAttribute(key, value);
  const sheet = document.createElementNS(svg.namespaceURI, 'style');
  sheet.textContent = rules;
  copy.prepend(ground, image);
  copy.prepend(sheet);
  copy.querySelector('#needle').remove();
  copy.setAttribute('xmlns', svg.namespaceURI);
  return new XMLSerializer().serializeToString(copy);
}
$('export').addEventListener('click', () => {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([picture()], { type: 'image/svg+xml' }));
  link.download = D.name.replace(/[^\w-]+/g, '-') + '.svg';
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
});

matchMedia('(prefers-color-scheme: dark)').addEventListener('change', later);
window.addEventListener('beforeprint', draw);
window.addEventListener('afterprint', later);
new ResizeObserver(() => { if (plots.clientWidth !== width) later(); }).observe(plots);

// Begin at the most telling moment: after the first thing that was noticed, or within a fault.
const told = D.broken && D.broken.node !== null && D.chapters.find(chapter => chapter.c === 'broken') || D.chapters.find(chapter => chapter.c === 'notice');
const longest = D.faults.reduce((one, other) => !one || other.b - other.a > one.b - one.a ? other : one, null);
const close = $('close');
if (close && D.broken) close.addEventListener('click', () => { stop(); moveTo(D.broken.t); show(D.broken.t - 1500, D.broken.t + 100); plots.scrollIntoView({ block: 'center' }); });

draw();
moveTo(told ? told.t + (told.c === 'broken' ? 0 : Math.min(1500, D.end / 40)) : longest ? (longest.a + longest.b) / 2 : D.end / 2);
