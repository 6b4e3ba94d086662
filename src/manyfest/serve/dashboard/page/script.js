// SPDX-License-Identifier: Apache-2.0
"use strict";

// ---- Building: elements are made with text nodes only, so nothing that a registry says becomes markup.

const SVG = "http://www.w3.org/2000/svg";

function h(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value !== undefined && value !== null && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== ""));
  return made;
}

function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  svg.setAttribute("data-icon", name);
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
}

/** Make `now` like `next`, touching only what differs: focus, selection and scrolling stay where they are. */
function morph(now, next) {
  for (const { name } of [...now.attributes]) if (!next.hasAttribute(name) && name !== "style") now.removeAttribute(name);
  for (const { name, value } of next.attributes) if (now.getAttribute(name) !== value) now.setAttribute(name, value);
  const old = [...now.childNodes], fresh = [...next.childNodes];
  fresh.forEach((child, at) => {
    const there = old[at];
    if (!there) now.append(child);
    else if (there.nodeType !== child.nodeType || there.nodeName !== child.nodeName) there.replaceWith(child);
    else if (child.nodeType === Node.TEXT_NODE) { if (there.data !== child.data) there.data = child.data; }
    else morph(there, child);
  });
  old.slice(fresh.length).forEach((child) => child.remove());
  if (next.dataset && next.dataset.grow) now.style.flexGrow = next.dataset.grow;
  if (next.dataset && next.dataset.part) now.style.width = `${next.dataset.part}%`;
}

// ---- Words

const UNITS = ["B", "kB", "MB", "GB", "TB"];
const KNOWN = /^(amd64|arm64|arm|386|s390x|ppc64le|ppc64|riscv64|loong64|mips.*)$/;

function size(count) {
  if (count === null || count === undefined) return "–";
  let value = count, unit = 0;
  while (value >= 999.5 && unit < UNITS.length - 1) { value /= 1000; unit += 1; }
  return `${unit === 0 || value >= 100 ? value.toFixed(0) : value.toFixed(1)} ${UNITS[unit]}`;
}

const several = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;
const short = (digest) => digest.replace(/^(\w+:.{12}).*/, "$1");
const mark = (kind, shown, text, quiet) => h("span", { class: `mark ${kind}${quiet ? " quiet" : ""}` }, icon(shown), text);
const hue = (architecture) => (KNOWN.test(architecture) ? architecture : "other");

function chip(text, architecture) {
  return h("span", { class: "chip", "data-arch": hue(architecture) }, text || "unknown");
}

function head(text, id, more) {
  return h("div", { class: "head" }, h("h2", { id }, text), more ? h("p", {}, more) : null);
}

function headRow(columns) {
  return h("thead", {}, h("tr", {}, columns.map(([text, how]) => h("th", { scope: "col", class: how }, text))));
}

// ---- Lists

function verdictOf(list) {
  if (list.state === "reading") return mark("", "busy", "Reading");
  if (list.state === "verifying") return mark("", "busy", "Looking inside");
  if (list.state === "failed") return mark("error", "error", "Cannot be read");
  if (list.errors) return mark("error", "error", several(list.errors, "error"));
  if (list.warnings) return mark("warning", "warning", several(list.warnings, "warning"));
  return mark("ok", "ok", "Verified");
}

function rowVerdict(list, row) {
  if (row.missing) return mark("error", "error", "Missing");
  if (list.state === "verifying") return mark("", "busy", "Looking", true);
  if (!list.verified) return h("span", { class: "dim" }, "–");
  if (row.starts === "fails") return mark("error", "error", "Would not start");
  if (row.errors) return mark("error", "error", several(row.errors, "error"));
  if (row.starts === "second") return mark("warning", "warning", "Not everywhere");
  if (row.warnings) return mark("warning", "warning", several(row.warnings, "warning"));
  if (row.starts === "starts") return mark("ok", "ok", "Starts");
  return mark("ok", "ok", row.starts === "nothing" ? "No command" : "No errors");
}

function finding(found) {
  const kind = found.severity === "error" ? "error" : "warning";
  return h("li", { class: kind }, icon(kind), h("div", {},
    h("p", {}, h("b", {}, `${kind === "error" ? "Error" : "Warning"}${found.platform ? `, ${found.platform}` : ""}:`),
      `${found.message} `, h("span", { class: "check" }, `${found.check} ${found.name}`)),
    found.says ? h("p", { class: "more" }, "docker run would say: ", h("code", {}, found.says)) : null,
    found.hint ? h("p", { class: "more" }, found.hint) : null));
}

function listCard(list) {
  const sub = list.state === "failed" ? null : list.digest
    ? h("p", { class: "sub mono", title: list.digest }, short(list.digest), ` · ${list.kind === "index" ? several(list.platforms.length, "platform") : "one image"}`)
    : h("p", { class: "sub" }, "not read yet");
  const card = h("article", { class: "card" },
    h("div", { class: "title" }, h("div", {}, h("h3", {}, list.name), sub), verdictOf(list)));
  if (list.state === "failed") {
    card.append(h("div", { class: "note problem" }, h("p", {}, h("strong", {}, list.error)), list.hint ? h("p", {}, list.hint) : null));
    return card;
  }
  if (!list.platforms.length && list.digest) card.append(h("p", { class: "note" }, "This list is empty: it has no platforms."));
  if (list.platforms.length) {
    card.append(h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `Platforms of ${list.name}` }, h("table", { class: "platforms" },
      h("caption", { class: "hidden" }, `Platforms of ${list.name}`),
      headRow([["Platform"], ["Digest", "optional"], ["Size", "number"], ["Layers", "number optional"], ["Attestations", "optional"], ["Inside"]]),
      h("tbody", {}, list.platforms.map((row) => h("tr", { class: row.errors || row.missing ? "bad" : null },
        h("th", { scope: "row" }, chip(row.platform, row.architecture)),
        h("td", { class: "mono digest optional", title: row.digest }, short(row.digest)),
        h("td", { class: "number" }, size(row.size)),
        h("td", { class: "number optional" }, row.layers === null ? "–" : String(row.layers)),
        h("td", { class: "optional" }, row.attestations.length
          ? h("span", { class: "seal" }, icon("seal"), row.attestations.join(", ")) : h("span", { class: "dim" }, "none")),
        h("td", {}, rowVerdict(list, row))))))));
  }
  if (list.left_out) card.append(h("p", { class: "note" }, `${list.left_out} more ${list.left_out === 1 ? "entry is" : "entries are"} left out.`));
  if (list.findings.length) card.append(h("ul", { class: "found", "aria-label": `Findings in ${list.name}` }, list.findings.map(finding)));
  return card;
}

function listsGroup(state) {
  return h("section", { class: "group", "aria-labelledby": "h-lists" }, head("Lists", "h-lists"), state.lists.map(listCard));
}

// ---- Who answers

function probeGroup(state) {
  const probe = state.probe, recent = probe.recent, last = recent[recent.length - 1];
  const cells = 60, missing = Math.max(cells - recent.length, 0);
  const bar = probe.answers.map((each) => h("i", { "data-arch": hue(each.name), "data-grow": String(each.count) }));
  if (probe.recent_failures) bar.push(h("i", { class: "lost", "data-grow": String(probe.recent_failures) }));
  const rows = probe.answers.map((each) => h("tr", {},
    h("th", { scope: "row" }, chip(each.name, each.name)),
    h("td", { class: "number" }, String(each.count)),
    h("td", { class: "number" }, `${Math.round(each.count * 100 / recent.length)} %`)));
  if (probe.recent_failures) {
    rows.push(h("tr", {}, h("th", { scope: "row" }, mark("error", "error", "No good answer")),
      h("td", { class: "number" }, String(probe.recent_failures)),
      h("td", { class: "number" }, `${Math.round(probe.recent_failures * 100 / recent.length)} %`)));
  }
  return h("section", { class: "group", "aria-labelledby": "h-probe" },
    head("Who answers", "h-probe", `last ${several(recent.length, "request")}`),
    h("div", { class: "card" },
      h("div", { class: "probe-title" }, h("p", {}, probe.url), last ? h("p", { class: "dim" }, `last: ${last.milliseconds} ms`) : null),
      h("div", { class: "bar", "aria-hidden": "true" }, bar),
      h("div", { class: "ticks", "aria-hidden": "true" },
        recent.map((each) => h("i", { class: each.error ? "lost" : null, "data-arch": hue(each.name),
          title: each.error ? `no ${each.number}: ${each.error}` : `no ${each.number}: ${each.text}` })),
        Array.from({ length: missing }, () => h("i", { class: "none" }))),
      last && last.error ? h("div", { class: "note problem" }, h("p", {}, h("strong", {}, last.error))) : null,
      rows.length ? h("table", {}, h("caption", { class: "hidden" }, "Answers by architecture"),
        headRow([["Answered by"], ["Requests", "number"], ["Share", "number"]]), h("tbody", {}, rows)) : null));
}

// ---- The swarm

const NODE_MARKS = { ready: ["ok", "ok", "Ready"], drained: ["", "pause", "Drained"], paused: ["", "pause", "Paused"], down: ["error", "error", "Down"], disconnected: ["error", "error", "Disconnected"] };
const TASK_MARKS = { running: ["ok", "ok", "Running"], complete: ["", "ok", "Complete"], failed: ["error", "error", "Failed"], rejected: ["error", "error", "Rejected"], shutdown: ["", "off", "Shut down"], orphaned: ["error", "error", "Orphaned"] };

const nodeMark = (state) => mark(...(NODE_MARKS[state] || ["warning", "warning", state]), true);
const taskMark = (state) => mark(...(TASK_MARKS[state] || ["", "busy", state[0].toUpperCase() + state.slice(1)]), true);

function nodesCard(swarm) {
  return h("div", { class: "card" }, h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Nodes" }, h("table", {},
    h("caption", { class: "hidden" }, "Nodes by architecture"),
    headRow([["Node"], ["Architecture"], ["State"], ["Role", "optional"], ["Tasks", "number"]]),
    h("tbody", {}, swarm.nodes.map((node) => h("tr", {},
      h("th", { scope: "row" }, node.name),
      h("td", {}, chip(node.architecture, node.architecture), node.machine && node.machine !== node.architecture ? h("span", { class: "dim mono" }, ` ${node.machine}`) : null),
      h("td", {}, nodeMark(node.state)),
      h("td", { class: "optional dim" }, node.role),
      h("td", { class: "number" }, String(node.running))))))));
}

function serviceCard(service) {
  const part = service.expected ? Math.min(100, Math.round(service.running * 100 / service.expected)) : 0;
  const says = service.tasks.some((task) => task.detail);
  return h("div", { class: "service" },
    h("div", { class: "title" },
      h("div", {}, h("h3", {}, service.name), h("p", { class: "sub" }, `${service.mode}, `, h("span", { class: "mono" }, service.image))),
      h("span", { class: "progress" }, h("span", { class: "meter", "aria-hidden": "true" }, h("i", { "data-part": String(part) })),
        `${service.running} of ${service.expected} running`)),
    service.tasks.length ? h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `Tasks of ${service.name}` }, h("table", { class: "tasks" },
      h("caption", { class: "hidden" }, `Tasks of ${service.name}`),
      headRow([["Node"], ["Architecture"], ["State"], ...(says ? [["What it says"]] : [])]),
      h("tbody", {}, service.tasks.map((task) => h("tr", { class: task.detail ? "bad" : null },
        h("th", { scope: "row" }, task.node || "no node yet"),
        h("td", {}, task.architecture ? chip(task.architecture, task.architecture) : h("span", { class: "dim" }, "–")),
        h("td", {}, taskMark(task.state)),
        says ? h("td", { class: "wide error-text" }, task.detail) : null))))) : h("p", { class: "note" }, "No task of it is wanted anywhere."));
}

function swarmGroups(state) {
  const swarm = state.swarm, ready = swarm.nodes.filter((node) => node.state === "ready").length;
  const groups = [h("section", { class: "group", "aria-labelledby": "h-nodes" },
    head("Nodes", "h-nodes", swarm.nodes.length ? `${ready} of ${swarm.nodes.length} ready` : ""),
    swarm.error ? h("div", { class: "card" }, h("div", { class: "note problem" }, h("p", {}, h("strong", {}, swarm.error)), swarm.hint ? h("p", {}, swarm.hint) : null,
      swarm.nodes.length ? h("p", {}, "What is below is the last that was known.") : null)) : null,
    swarm.nodes.length ? nodesCard(swarm) : swarm.error ? null : h("p", { class: "card note" }, "The swarm has no nodes."))];
  if (!swarm.error || swarm.services.length) {
    groups.push(h("section", { class: "group", "aria-labelledby": "h-services" }, head("Services", "h-services"),
      swarm.services.length ? h("div", { class: "card" }, swarm.services.map(serviceCard))
        : h("p", { class: "card note" }, "No services. manyfest deploy starts one.")));
  }
  return groups;
}

// ---- The whole page

function tile(name, value, more) {
  return h("div", { class: "tile" }, h("dt", {}, name), h("dd", {}, h("b", {}, value), more));
}

function tiles(state) {
  const made = [], lists = state.lists;
  if (lists.length) {
    const wrong = lists.filter((list) => list.errors || list.state === "failed").length;
    const busy = lists.some((list) => list.state === "reading" || list.state === "verifying");
    made.push(tile("Lists", String(lists.length), wrong ? mark("error", "error", `${wrong} with problems`)
      : busy ? mark("", "busy", "looking inside") : mark("ok", "ok", "no errors")));
    const platforms = new Set(lists.flatMap((list) => list.platforms.map((row) => row.platform).filter(Boolean)));
    const total = lists.flatMap((list) => list.platforms).reduce((sum, row) => sum + (row.size || 0), 0);
    made.push(tile("Platforms", String(platforms.size), h("small", {}, `${size(total)} in all images`)));
  }
  if (state.swarm) {
    const nodes = state.swarm.nodes, kinds = new Set(nodes.map((node) => node.architecture));
    const away = nodes.filter((node) => node.state !== "ready").length;
    made.push(tile("Nodes", String(nodes.length), state.swarm.error ? mark("error", "error", "no answer")
      : away ? mark("warning", "warning", `${away} not ready`) : h("small", {}, several(kinds.size, "architecture"))));
    const running = state.swarm.services.reduce((sum, service) => sum + service.running, 0);
    const expected = state.swarm.services.reduce((sum, service) => sum + service.expected, 0);
    if (!state.swarm.error || expected) made.push(tile("Tasks running", String(running), running < expected ? mark("warning", "warning", `${expected - running} missing`)
      : h("small", {}, `of ${expected}`)));
  }
  if (state.probe) {
    const probe = state.probe, known = probe.answers.filter((each) => KNOWN.test(each.name)).length;
    made.push(tile("Answers", String(probe.total - probe.failures), probe.failures ? mark("error", "error", `${probe.failures} failed`)
      : h("small", {}, known ? `by ${several(known, "architecture")}` : "no architecture named")));
  }
  return h("dl", { class: "tiles" }, made);
}

function changesGroup(state) {
  return h("section", { class: "group", "aria-labelledby": "h-changes" }, head("What changed", "h-changes"),
    h("div", { class: "card" }, state.changes.length
      ? h("ol", { class: "log", tabindex: "0", "aria-label": "Changes, the newest first" }, state.changes.map((change) => h("li", {},
        h("time", { datetime: change.at }, new Date(change.at).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false })),
        h("span", {}, change.text))))
      : h("p", { class: "note" }, "Nothing yet.")));
}

function pageOf(state) {
  const left = state.lists.length ? [listsGroup(state)] : [];
  const right = [];
  if (state.probe) right.push(probeGroup(state));
  if (state.swarm) right.push(...swarmGroups(state));
  const log = changesGroup(state);
  const columns = left.length && right.length
    ? h("div", { class: "columns two" }, h("div", { class: "column" }, left, log), h("div", { class: "column" }, right))
    : h("div", { class: "columns one" }, h("div", { class: "column" }, left, right, log));
  return h("div", { id: "page" }, tiles(state), columns);
}

let heard = null;

/** The newest sentences for those who listen; not those that were there when the page came. */
function announce(state) {
  const newest = state.changes.length ? state.changes[0].number : 0;
  if (heard !== null && newest > heard) {
    const fresh = state.changes.filter((change) => change.number > heard).map((change) => change.text).reverse();
    document.getElementById("said").textContent = fresh.slice(-3).join(". ");
  }
  heard = newest;
}

function show(state) {
  morph(document.getElementById("page"), pageOf(state));
  // Widths are set through the DOM: the page's policy forbids style attributes.
  for (const each of document.querySelectorAll("[data-grow]")) each.style.flexGrow = each.dataset.grow;
  for (const each of document.querySelectorAll("[data-part]")) each.style.width = `${each.dataset.part}%`;
  const bad = state.lists.reduce((sum, list) => sum + list.errors + (list.state === "failed" ? 1 : 0), 0);
  document.title = bad ? `(${bad}) manyfest dashboard` : "manyfest dashboard";
  announce(state);
}

// ---- Live

const SILENT_MS = 25000;
let alive = Date.now(), source = null;

function tell(kind, text) {
  const live = document.getElementById("live"), words = document.getElementById("live-text");
  if (live.dataset.state !== kind) live.dataset.state = kind;
  if (words.textContent !== text) words.textContent = text;
}

function connect() {
  if (source) source.close();
  source = new EventSource("events");
  alive = Date.now();
  source.addEventListener("open", () => { alive = Date.now(); tell("ok", "Live"); });
  source.addEventListener("state", (event) => { alive = Date.now(); show(JSON.parse(event.data)); tell("ok", "Live"); });
  source.addEventListener("alive", () => { alive = Date.now(); });
  source.addEventListener("error", () => tell("error", "No connection; trying again"));
}

setInterval(() => {
  // A connection that died without a word, or one that the browser has given up (it does after some answers).
  if (Date.now() - alive > SILENT_MS || source.readyState === EventSource.CLOSED && Date.now() - alive > 3000) {
    tell("error", "No connection; trying again");
    connect();
  }
}, 2000);

// ---- Light and dark

const prefersDark = matchMedia("(prefers-color-scheme: dark)");

function kept() {
  try { return localStorage.getItem("manyfest-theme"); } catch { return null; }
}

function dress() {
  const theme = kept() || (prefersDark.matches ? "dark" : "light");
  document.documentElement.dataset.theme = theme;
  const other = theme === "dark" ? "Light" : "Dark";
  document.getElementById("theme-text").textContent = other;
  document.getElementById("theme").setAttribute("aria-label", `${other} colours`);
  document.querySelector("#theme use").setAttribute("href", theme === "dark" ? "#i-sun" : "#i-moon");
}

document.getElementById("theme").addEventListener("click", () => {
  const next = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  try { localStorage.setItem("manyfest-theme", next); } catch { document.documentElement.dataset.theme = next; return; }
  dress();
});
prefersDark.addEventListener("change", dress);

dress();
document.getElementById("origin").textContent = location.host;
// The page brings the state of its making along: there is something to see before the stream begins.
const first = JSON.parse(document.getElementById("state").textContent);
if (first) show(first);
connect();
