// What everyone believes at the cursor: a ring of nodes, and sentences.
function unreachable(node, t) {
  const out = [];
  for (const fault of D.faults) if (isActive(fault, t) && fault.blocked.length && fault.blocked[node]) out.push(fault.blocked[node]);
  return out;
}

const cutAt = t => {
  const active = D.faults.filter(fault => isActive(fault, t) && fault.blocked.length);
  const sets = active.map(fault => fault.blocked.map(text => new Set(inRuns(text))));
  return (from, to) => sets.some(set => set[from].has(to));
};

function ring(t, state) {
  const n = D.n, size = 220, c = size / 2, r = n > 14 ? 88 : 80, dot = n <= 9 ? 15 : n <= 16 ? 11 : 7;
  const at = D.order.map((_, row) => { const angle = -Math.PI / 2 + 2 * Math.PI * (row + 0.5) / n; return [c + r * Math.cos(angle), c + r * Math.sin(angle)]; });
  const spot = node => at[rowOf[node]];
  const cut = cutAt(t), runs = node => { const it = lifeAt(node, t); return it && (it.k === 1 || it.k === 4); };
  let lines = '', dots = '';
  for (let a = 0; a < n; a++) for (let b = a + 1; b < n; b++) {
    const ab = state[a * n + b] === 1, ba = state[b * n + a] === 1;
    if (!ab && !ba) continue;
    const [xa, ya] = spot(a), [xb, yb] = spot(b), broken = cut(a, b) || cut(b, a) || !runs(a) || !runs(b);
    const kind = broken ? 'stale' : ab && ba ? 'both' : 'one';
    lines += `<path class="tie ${kind}" d="M${num(xa)} ${num(ya)}L${num(xb)} ${num(yb)}"/>`;
  }
  for (let node = 0; node < n; node++) {
    const [px, py] = spot(node), life = lifeAt(node, t), k = life && life.k === 3 ? 'paused' : sightClass(sightAt(node, t));
    dots += `<g class="dot ${k}"><circle cx="${num(px)}" cy="${num(py)}" r="${dot}"/>` + (dot > 8 ? `<text x="${num(px)}" y="${num(py + 4)}" text-anchor="middle">${node}</text>` : '') + '</g>';
  }
  return `<svg viewBox="0 0 ${size} ${size}" class="ring" role="img" aria-label="Who lists whom">${lines}${dots}</svg><p class="small">A line: both list each other. Dotted: listed, yet out of reach. Dashed: only one lists the other.</p>`;
}

// Rows see columns.
function matrix(t, state) {
  const n = D.n, cell = 220 / n;
  let d = '', wrong = '';
  const runs = D.order.map(node => { const it = lifeAt(node, t); return it && (it.k === 1 || it.k === 4); });
  D.order.forEach((a, row) => {
    for (let column = 0; column < n; column++) {
      if (state[a * n + D.order[column]] !== 1) continue;
      let stop = column + 1;
      const bad = !runs[column];
      while (stop < n && state[a * n + D.order[stop]] === 1 && !runs[stop] === bad) stop++;
      const path = `M${num(column * cell)} ${num(row * cell)}h${num((stop - column) * cell)}v${num(cell * 0.9)}h${-num((stop - column) * cell)}z`;
      if (bad) wrong += path; else d += path;
      column = stop - 1;
    }
  });
  return `<svg viewBox="0 0 220 220" class="ring" role="img" aria-label="Each row is a node, marked where it lists the node of the column"><rect class="frame" width="220" height="220"/><path class="cell" d="${d}"/><path class="cell wrong" d="${wrong}"/></svg><p class="small">Each row is a node; it is filled where it lists the node of that column.</p>`;
}

function sentences(t, state) {
  const n = D.n, groups = new Map(), off = [], still = [];
  for (let node = 0; node < n; node++) {
    const life = lifeAt(node, t);
    if (!life || life.k === 0 || life.k === 2) { off.push(node); continue; }
    if (life.k === 3) { still.push(node); continue; }
    const row = state.subarray(node * n, node * n + n), key = row.join('');
    if (!groups.has(key)) groups.set(key, { nodes: [], row });
    groups.get(key).nodes.push(node);
  }
  const c = columnAt(t), list = [...groups.values()].sort((a, b) => b.nodes.length - a.nodes.length || a.nodes[0] - b.nodes[0]);
  const pick = (row, code) => { const out = []; row.forEach((value, node) => { if (value === code) out.push(node); }); return out; };
  const line = (kind, who, text) => `<li><i class="swatch ${kind}"></i><p><b>${who}</b> ${text}</p></li>`;
  const out = list.slice(0, 8).map(({ nodes, row }) => {
    const one = nodes.length === 1, many = n > 24;
    const named = list => many && list.length > 4 ? `<span title="${runText(list)}">${list.length}</span>` : runList(list);
    const sees = pick(row, 1), down = pick(row, 2), left = pick(row, 3), k = sightAt(nodes[0], t);
    let text = sees.length === 1 && one && sees[0] === nodes[0] ? 'lists only itself' : (one ? 'lists ' : 'list ') + (sees.length === n ? (n === 2 ? 'both nodes' : `all ${n} nodes`) : named(sees));
    if (down.length) text += `, ${one ? 'holds' : 'hold'} ${named(down)} for down`;
    if (left.length) text += `, ${one ? 'knows' : 'know'} that ${named(left)} left`;
    const far = [...new Set(nodes.flatMap(node => unreachable(node, t)))];
    if (far.length === 1) text += `. <span class="cut">Cannot reach ${named(inRuns(far[0]))}.</span>`; else { text += '.'; if (far.length > 1) text += ' <span class="cut">They cannot all reach each other, and have not noticed yet.</span>'; }
    const misses = Math.max(...nodes.map(node => missing[node][c])), ghosts = Math.max(...nodes.map(node => phantom[node][c]));
    if (misses) text += ` <span class="missing">Misses ${misses} producer${misses > 1 ? 's' : ''}.</span>`;
    if (ghosts) text += ` <span class="phantom">Lists ${ghosts} that ${ghosts > 1 ? 'are' : 'is'} gone.</span>`;
    return line(sightClass(k), many && nodes.length > 4 ? `<span title="${runText(nodes)}">${nodes.length} nodes</span>` : theNodes(nodes), text);
  });
  if (list.length > 8) out.push(line('other', `${list.length - 8} more views`, 'are about to change.'));
  if (still.length) out.push(line('paused', theNodes(still), still.length > 1 ? 'stand still.' : 'stands still.'));
  if (off.length) out.push(line('dark', theNodes(off), off.length > 1 ? 'do not run.' : 'does not run.'));
  return out.join('');
}

// With hundreds of nodes: how many see what.
function tally(t) {
  const counts = new Map();
  for (let node = 0; node < D.n; node++) { const k = sightAt(node, t); counts.set(k, (counts.get(k) || 0) + 1); }
  const words = k => k === DARK ? 'do not run' : k === RIGHT ? 'list exactly the nodes that run' : k === CHANGING ? 'are changing their minds' : k === 2 ? 'list other sets of members' : `list ${D.views[k - 3].text}`;
  return [...counts].sort((a, b) => b[1] - a[1]).map(([k, count]) => `<li><i class="swatch ${sightClass(k)}"></i><p><b>${count.toLocaleString('en')} nodes</b> ${words(k)}.</p></li>`).join('');
}

function drawNow() {
  const t = cursor, c = columnAt(t);
  $('clock').textContent = clock(t, 1);
  const active = D.faults.filter(fault => isActive(fault, t));
  $('active').innerHTML = active.length ? active.slice(0, 4).map(fault => `<li class="${fault.c}">${esc(fault.text)}</li>`).join('') + (active.length > 4 ? `<li>and ${active.length - 4} more</li>` : '') : '<li class="calm">No fault right now.</li>';
  $('share').textContent = heat.cols ? Math.floor(heat.agreement[c] / 10) + ' %' : '';
  const state = beliefs && beliefs(t);
  $('ring').innerHTML = state ? (D.n <= 24 ? ring(t, state) : matrix(t, state)) : '';
  $('words').innerHTML = state && D.n <= 200 ? sentences(t, state) : tally(t);
}
