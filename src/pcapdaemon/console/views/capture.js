// Starts a capture: a form whose filter is checked while it is typed, and the same request as JSON
// and as a command.

import { html, useEffect, useMemo, useState } from "../vendor/preact.js";
import { BASE, get, hasToken, post, Refused } from "../api.js";
import { Copy, Empty, Plot, Problem, useLoaded } from "../parts.js";
import { bits, inSeconds, perSecond, seconds, size } from "../words.js";

const CHECK_AFTER = 250;

// The fields of the form besides interfaces, filter and lookback: name in messages, label, kind.
const FIELDS = [
  ["packets", "Stop after packets", "number"],
  ["duration", "Stop after", "time"],
  ["timeout", "Stop when no packet comes for", "time"],
  ["bytes", "Stop at bytes", "number"],
  ["snap", "Bytes kept of each packet", "number"],
  ["customer", "Customer", "text"],
  ["tags", "Tags, separated by commas", "text"],
  ["comment", "Comment in the savefile", "text"],
];
const FORMATS = ["", "pcap", "pcapng"];
const COMPRESSIONS = ["", "none", "gzip", "zstd"];

function listOf(text) {
  return text.split(",").map((one) => one.trim()).filter(Boolean);
}

// What the form says of the nodes, for the fleet.
function nodesOf(form, request, wrong) {
  if (form.where === "any") request.node = "any";
  else if (form.node.trim()) request[form.where] = form.node.trim();
  else wrong.node = form.where === "node" ? "write the name of a node" : "write an expression";
  const labels = listOf(form.labels).map((one) => one.split("="));
  if (labels.some((one) => one.length !== 2 || !one[0])) wrong.labels = "write name=value, separated by commas";
  else if (labels.length) request.labels = Object.fromEntries(labels.map(([name, value]) => [name.trim(), value.trim()]));
  if (form.aliases.trim()) request.alias = listOf(form.aliases);
  else if (form.other.trim()) request.interface = listOf(form.other);
}

// The request that the form describes, and the fields that are wrong. `reach` are the seconds that
// can be asked of the recorder.
export function requestOf(form, fleet, reach) {
  const request = {};
  const wrong = {};
  if (fleet) nodesOf(form, request, wrong);
  else request.node = "any";
  if (form.profile) request.profile = form.profile;
  if (!request.interface && !request.alias && form.interfaces.length) request.interface = form.interfaces;
  if (form.bpf.trim()) request.bpf = form.bpf.trim();
  if (Math.min(form.lookback, reach) > 0) request.lookback = Math.min(form.lookback, reach);
  for (const [name, , kind] of FIELDS) {
    const text = (form[name] || "").trim();
    if (!text) continue;
    if (kind === "text") {
      request[name] = text;
      continue;
    }
    const value = kind === "time" ? inSeconds(text) : /^\d+$/.test(text) ? Number(text) : NaN;
    if (Number.isNaN(value) || value <= 0) wrong[name] = kind === "time" ? "write seconds, or for example 2m" : "write a whole number";
    else request[name] = Math.ceil(value);
  }
  if (form.format) request.format = form.format;
  if (form.compress) request.compress = form.compress;
  if (form.merge && form.interfaces.length > 1) request.merge = true;
  return [request, wrong];
}

function quoted(text) {
  return /^[A-Za-z0-9_./:=@,+-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

// The same request as a command of this program.
export function commandOf(request, url, bus) {
  const words = ["pcapdaemon", "request", ...(bus ? ["--config", "pcapdaemon.toml", "--via", bus] : ["--url", url])];
  if (!bus && hasToken()) words.push("--token-file", "token");
  for (const [name, value] of Object.entries(request)) {
    if (name === "node" && value === "any" && !bus) continue;
    if (value === true) words.push(`--${name}`);
    else if (name === "labels") for (const [label, one] of Object.entries(value)) words.push("--label", quoted(`${label}=${one}`));
    else for (const one of Array.isArray(value) ? value : [value]) words.push(`--${name}`, quoted(String(one)));
  }
  return words.join(" ");
}

function useFilterCheck(expression, name) {
  const [found, setFound] = useState({ state: "empty" });
  useEffect(() => {
    const text = expression.trim();
    if (!text) {
      setFound({ state: "empty" });
      return undefined;
    }
    setFound((known) => ({ ...known, state: "checking" }));
    const stop = new AbortController();
    const timer = setTimeout(() => {
      post("/filters", { bpf: text, interface: name }, stop.signal).then(
        (answer) => setFound({ state: answer.valid ? "valid" : "wrong", ...answer }),
        (error) => stop.signal.aborted || setFound({ state: "unknown", error: error.message }),
      );
    }, CHECK_AFTER);
    return () => {
      clearTimeout(timer);
      stop.abort();
    };
  }, [expression, name]);
  return found;
}

function FilterState({ found, profile }) {
  const words = {
    empty: profile?.bpf ? `The profile's filter applies: ${profile.bpf}` : "Every packet is captured.",
    checking: "Checking …",
    valid: `Valid, ${found.instructions} instructions.`,
    wrong: found.error,
    unknown: `Not checked: ${found.error}`,
  }[found.state];
  return html`<p id="bpf-state" role="status" class=${found.state === "wrong" ? "problem" : "note"}>${words}</p>`;
}

function Lookback({ form, set, recorder, reach, profile, levels }) {
  const name = form.interfaces[0];
  const last = levels[levels.length - 1];
  const [rates] = useLoaded((signal) => (recorder ? get(`/recorders/${encodeURIComponent(name)}/rates`, signal) : Promise.resolve(null)), [name, Boolean(recorder), Math.floor((last?.at || 0) / 5)]);
  const plot = useMemo(() => rates && rates.at.length > 1 && [rates.at, [["Bits a second", rates.bytes.map((one) => one * 8), bits], ["Packets a second", rates.packets, perSecond]]], [rates]);
  if (!recorder) return html`<p class="note">${name ? `${name} has no recorder, so the capture begins now.` : "Choose an interface that has a recorder to begin before now."}</p>`;
  const covered = last?.recorders[name]?.covered || 0;
  const chosen = Math.min(form.lookback, reach);
  const words = chosen ? seconds(chosen) : profile?.lookback ? `${seconds(profile.lookback)}, as the profile says` : "no";
  return html`<div class="field">
    <label for="lookback">Begin before now: ${words}</label>
    <input id="lookback" type="range" min="0" max=${reach} step="1" value=${chosen} onInput=${(event) => set("lookback", Number(event.target.value))} aria-describedby="lookback-note" />
    <p id="lookback-note" class="note">The recorder reaches back ${seconds(covered)} now${chosen > covered ? html`, <strong>less than that</strong>` : ""}.</p>
    ${plot && html`<${Plot} times=${plot[0]} lines=${plot[1]} height=${120} label=${`What the recorder of ${name} has, over time`} />`}
  </div>`;
}

function Interfaces({ interfaces, form, set }) {
  const [search, setSearch] = useState("");
  const able = interfaces.filter((one) => one.allowed);
  const shown = able.filter((one) => form.interfaces.includes(one.name) || one.name.includes(search) || one.aliases.some((alias) => alias.includes(search)));
  const toggle = (name, on) => set("interfaces", on ? [...form.interfaces, name] : form.interfaces.filter((one) => one !== name));
  return html`<fieldset>
    <legend>Interfaces</legend>
    ${able.length > 12 && html`<label for="interface-search">Search</label><input id="interface-search" type="search" value=${search} onInput=${(event) => setSearch(event.target.value)} onKeyDown=${(event) => event.key === "Enter" && event.preventDefault()} />`}
    ${able.length === 0 && html`<${Empty}>This node may not capture on any interface: [general] interfaces.<//>`}
    <div class="choices">${shown.slice(0, 200).map((one) => html`<label key=${one.name}>
      <input type="checkbox" name="interface" value=${one.name} checked=${form.interfaces.includes(one.name)} onChange=${(event) => toggle(one.name, event.target.checked)} />
      <span>${one.name}</span>
      <span class="note">${[one.recorder ? "recorded" : "", one.up ? "" : "down", ...one.aliases].filter(Boolean).join(", ")}</span>
    </label>`)}</div>
  </fieldset>`;
}

function Text({ name, label, value, set, wrong, hint }) {
  return html`<div class="field">
    <label for=${name}>${label}</label>
    <input id=${name} value=${value} onInput=${(event) => set(name, event.target.value)} placeholder=${hint} aria-invalid=${Boolean(wrong)} aria-describedby=${wrong ? `${name}-wrong` : undefined} autocomplete="off" />
    ${wrong && html`<p id=${`${name}-wrong`} class="problem">${wrong}</p>`}
  </div>`;
}

function Choice({ name, label, value, set, from, words = (one) => one }) {
  return html`<div class="field">
    <label for=${name}>${label}</label>
    <select id=${name} value=${value} onChange=${(event) => set(name, event.target.value)}>
      ${from.map((one) => html`<option value=${one} selected=${one === value}>${words(one)}</option>`)}
    </select>
  </div>`;
}

export function hintsOf(about) {
  const { limits, defaults } = about;
  return {
    packets: `at most ${limits.packets}`,
    duration: `at most ${seconds(limits.duration)}`,
    timeout: seconds(defaults.timeout),
    bytes: `at most ${size(limits.bytes)}`,
    snap: String(defaults.snap),
  };
}

function Nodes({ form, set, wrong }) {
  const labels = { any: "All nodes", node: "One node", nodere: "Nodes whose names match a regular expression" };
  return html`<fieldset>
    <legend>Nodes</legend>
    <${Choice} name="where" label="Which nodes" value=${form.where} set=${set} from=${["any", "node", "nodere"]} words=${(one) => labels[one]} />
    ${form.where !== "any" && html`<${Text} name="node" label=${form.where === "node" ? "Name of the node" : "Regular expression"} value=${form.node} set=${set} wrong=${wrong.node} hint=${form.where === "node" ? "" : "for example: ^web-"} />`}
    <${Text} name="labels" label="Only those with labels" value=${form.labels} set=${set} wrong=${wrong.labels} hint="for example: site=fra*, role=edge" />
    <${Text} name="other" label="Interfaces of those nodes, if not those below" value=${form.other} set=${set} hint="for example: eth0" />
    <${Text} name="aliases" label="Or aliases of those nodes" value=${form.aliases} set=${set} hint="for example: uplink" />
  </fieldset>`;
}

export function CaptureView({ about, levels, fleet: known, route }) {
  const fleet = about.console.fleet && route.query.get("fleet") === "true";
  const [interfaces, problem] = useLoaded((signal) => get("/interfaces", signal), []);
  const [recorders] = useLoaded((signal) => get("/recorders", signal), []);
  const first = route.query.get("interface");
  const [form, setForm] = useState({ profile: "", interfaces: first ? [first] : [], bpf: route.query.get("bpf") || "", lookback: 0, format: "", compress: "", merge: false, where: "any", node: "", labels: "", other: "", aliases: "" });
  const set = (name, value) => setForm((known) => ({ ...known, [name]: value }));
  const [refused, setRefused] = useState(null);
  const [sending, setSending] = useState(false);
  const found = useFilterCheck(form.bpf, form.interfaces[0] || "");
  const profile = about.profiles[form.profile];
  const recorder = (recorders || []).find((one) => one.interface === form.interfaces[0]);
  const reach = Math.floor(Math.min(about.limits.lookback, recorder?.seconds || 0));
  const [request, wrong] = useMemo(() => requestOf(form, fleet, reach), [form, fleet, reach]);
  const hints = hintsOf(about);
  const named = Boolean(request.interface || request.alias) || profile?.interface || profile?.alias;
  const missing = !named ? "Choose an interface." : Object.keys(wrong).length ? "Correct what is marked." : found.state === "wrong" ? "Correct the filter." : "";
  const submit = async (event) => {
    event.preventDefault();
    if (missing) {
      setRefused(new Refused(0, { detail: missing }));
      return;
    }
    setSending(true);
    setRefused(null);
    const dryrun = event.submitter?.value === "dryrun" ? { dryrun: true } : {};
    try {
      const answer = await post(fleet ? "/fleet/captures" : "/captures", { ...request, ...dryrun });
      location.hash = `#/${fleet ? "fleet" : "captures"}/${encodeURIComponent(answer.id)}`;
    } catch (error) {
      setRefused(error);
      setSending(false);
    }
  };
  const json = JSON.stringify(request, null, 2);
  const command = commandOf(request, location.origin + BASE, fleet ? Object.keys(known?.buses || {})[0] || "redis" : "");
  return html`
    <h1 tabindex="-1">${fleet ? "Capture on several nodes" : "Capture"}</h1>
    ${about.console.fleet && html`<p>${fleet ? html`<a href="#/capture">Capture on this node only</a>` : html`<a href="#/capture?fleet=true">Capture on several nodes</a>`}</p>`}
    <${Problem} error=${problem} />
    <div class="columns wide">
      <form onSubmit=${submit} class="capture">
        ${fleet && html`<${Nodes} form=${form} set=${set} wrong=${wrong} />`}
        ${Object.keys(about.profiles).length > 0 && html`
          <${Choice} name="profile" label="Profile" value=${form.profile} set=${set} from=${["", ...Object.keys(about.profiles)]} words=${(one) => one || "none"} />
          ${profile && html`<p class="note">It sets ${Object.entries(profile).map(([name, value]) => `${name} = ${JSON.stringify(value)}`).join(", ")}, where the form says nothing.</p>`}`}
        ${interfaces && html`<${Interfaces} interfaces=${interfaces} form=${form} set=${set} />`}
        <div class="field">
          <label for="bpf">Capture filter</label>
          <input id="bpf" class="code" value=${form.bpf} onInput=${(event) => set("bpf", event.target.value)} placeholder="for example: udp port 53" aria-describedby="bpf-state" aria-invalid=${found.state === "wrong"} autocomplete="off" spellcheck=${false} />
          <${FilterState} found=${found} profile=${profile} />
        </div>
        <${Lookback} form=${form} set=${set} recorder=${recorder} reach=${reach} profile=${profile} levels=${levels} />
        <div class="grid">
          ${FIELDS.map(([name, label]) => html`<${Text} name=${name} label=${label} value=${form[name] || ""} set=${set} wrong=${wrong[name]} hint=${hints[name]} />`)}
          <${Choice} name="format" label="Format" value=${form.format} set=${set} from=${FORMATS} words=${(one) => one || `${about.defaults.format} (default)`} />
          <${Choice} name="compress" label="Compression" value=${form.compress} set=${set} from=${COMPRESSIONS} words=${(one) => one || `${about.defaults.compress} (default)`} />
        </div>
        ${form.interfaces.length > 1 && html`<label class="check"><input type="checkbox" checked=${form.merge} onChange=${(event) => set("merge", event.target.checked)} /> One pcapng file for all interfaces</label>`}
        <${Problem} error=${refused} />
        <p class="buttons">
          <button type="submit" class="main" disabled=${sending}>Start</button>
          ${fleet && html`<button type="submit" value="dryrun" disabled=${sending}>Who would capture?</button>`}
        </p>
      </form>
      <section aria-label="The same request elsewhere">
        <h2>The same request</h2>
        <h3>As a message</h3>
        <pre tabindex="0">${json}</pre>
        <${Copy} text=${json}>Copy the message<//>
        <h3>As a command</h3>
        <pre tabindex="0">${command}</pre>
        <${Copy} text=${command}>Copy the command<//>
      </section>
    </div>`;
}
