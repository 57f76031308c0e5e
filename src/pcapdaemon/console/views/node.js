// This node: whether it is well, its interfaces with their traffic, its recorders and memory.

import { html, useMemo, useState } from "../vendor/preact.js";
import { get } from "../api.js";
import { Bar, Empty, Plot, Problem, State, useLoaded } from "../parts.js";
import { bits, count, perSecond, plural, seconds, size } from "../words.js";

export function NodeView({ about, levels }) {
  const last = levels[levels.length - 1];
  const now = last?.at || Date.now() / 1000; // by the clock of the node
  const sources = Object.values(about.sources);
  const ready = sources.length > 0 && sources.every((one) => one.connected);
  const [interfaces, problem] = useLoaded((signal) => get("/interfaces", signal), [about]); // which is loaded every 15 seconds
  const [recorders] = useLoaded((signal) => get("/recorders", signal), [about]);
  return html`
    <h1 tabindex="-1">${about.node}</h1>
    <p role="status"><${State} name=${ready ? "ready" : "not ready"} /> ${ready ? "" : html`<span class="note">a source is not connected</span>`}</p>
    <p class="note">
      pcapdaemon ${about.version}, ${about.library}, running for ${seconds(Math.max(0, now - about.started_at))}
      ${Object.keys(about.labels).length > 0 && html`, ${Object.entries(about.labels).map(([name, value]) => `${name} = ${value}`).join(", ")}`}
    </p>
    <div class="columns">
      <${Connections} title="Sources" found=${sourcesOf(about, now)} none="No source is turned on." />
      <${Connections} title="Destinations" found=${destinationsOf(about)} none="No destination is turned on." />
      <${Memory} about=${about} level=${last} />
    </div>
    <${Recorders} recorders=${recorders || []} level=${last} />
    <${Problem} error=${problem} />
    ${interfaces && html`<${Interfaces} interfaces=${interfaces} levels=${levels} />`}`;
}

function sourcesOf(about, now) {
  return Object.entries(about.sources).map(([name, one]) => [name, one.connected ? "connected" : "disconnected", one.connected ? `for ${seconds(Math.max(0, now - one.since))}` : one.reason]);
}

function destinationsOf(about) {
  return Object.entries(about.destinations).map(([name, why]) => [name, why ? "failed" : "alive", why]);
}

function Connections({ title, found, none }) {
  return html`<section>
    <h2>${title}</h2>
    ${found.length === 0 && html`<${Empty}>${none}<//>`}
    <dl>${found.map(([name, state, words]) => html`<dt>${name}</dt><dd><${State} name=${state === "alive" ? "connected" : state} /> <span class="note">${words}</span></dd>`)}</dl>
  </section>`;
}

function Memory({ about, level }) {
  const spool = level?.spool || { files: 0, bytes: 0, oldest: 0 };
  return html`<section>
    <h2>Memory and spool</h2>
    <dl>
      <dt>Memory</dt>
      <dd><${Bar} value=${level?.memory || 0} of=${about.limits.memory} label="Memory in use" text=${`${size(level?.memory)} of ${size(about.limits.memory)}`} /></dd>
      <dt>Captures</dt>
      <dd><${Bar} value=${level?.captures || 0} of=${about.limits.captures} label="Captures that run" text=${`${level?.captures || 0} of ${about.limits.captures}`} /></dd>
      <dt>Messages for other nodes</dt>
      <dd>${count(level?.skipped || 0)} skipped</dd>
      <dt>Spool</dt>
      <dd>${spool.files ? `${plural(spool.files, "savefile")}, ${size(spool.bytes)}, the oldest for ${seconds(spool.oldest)}` : "empty"}</dd>
    </dl>
  </section>`;
}

function Recorders({ recorders, level }) {
  if (recorders.length === 0) return null;
  return html`<section>
    <h2>Recorders</h2>
    <div class="scroll-x" tabindex="0" role="region" aria-label="Table of recorders"><table class="plain">
      <thead><tr><th>Interface</th><th>State</th><th>Reaches back</th><th>Memory</th><th>Dropped</th><th>Filter</th></tr></thead>
      <tbody>${recorders.map((one) => {
        const now = level?.recorders[one.interface] || one;
        return html`<tr>
          <td>${one.interface}</td>
          <td>${now.reason ? html`<${State} name="failed" /> ${now.reason}` : html`<${State} name="running" />`}</td>
          <td><${Bar} value=${now.covered} of=${one.seconds} label=${`How far back ${one.interface} reaches`} text=${`${seconds(now.covered)} of ${seconds(one.seconds)}`} /></td>
          <td><${Bar} value=${now.bytes} of=${one.memory} label=${`Memory of ${one.interface}`} text=${`${size(now.bytes)} of ${size(one.memory)}`} /></td>
          <td>${one.dropped + one.dropped_by_interface}</td>
          <td><code>${one.bpf || "none"}</code></td>
        </tr>`;
      })}</tbody>
    </table></div>
  </section>`;
}

// Rates of an interface between two levels: [packets, bytes] a second.
export function rateOf(before, after, name) {
  const a = before?.traffic[name];
  const b = after?.traffic[name];
  const time = after && before ? after.at - before.at : 0;
  return a && b && time > 0 ? [Math.max(0, (b[0] - a[0]) / time), Math.max(0, (b[1] - a[1]) / time)] : null;
}

export function seriesOf(levels, name) {
  const rates = levels.slice(1).map((level, n) => rateOf(levels[n], level, name));
  return [levels.slice(1).map((level) => level.at), rates.map((one) => one && one[0]), rates.map((one) => one && one[1] * 8)];
}

function Interfaces({ interfaces, levels }) {
  const networks = interfaces.filter((one) => one.kind !== "pseudo");
  const bytes = (one) => (one.name === "lo" ? 0 : levels[0]?.traffic[one.name]?.[1] || 0);
  const busiest = networks.reduce((most, one) => (most && bytes(most) >= bytes(one) ? most : one), undefined);
  const [chosen, choose] = useState("");
  const name = chosen || busiest?.name || "";
  const [times, packets, speed] = useMemo(() => seriesOf(levels, name), [levels, name]);
  const lines = useMemo(() => [["Bits a second", speed, bits], ["Packets a second", packets, perSecond]], [packets, speed]);
  const [before, after] = levels.slice(-2);
  return html`<section>
    <h2>Interfaces</h2>
    <h3>${name}</h3>
    ${times.length > 1 ? html`<${Plot} times=${times} lines=${lines} label=${`Bits and packets a second on ${name}`} />` : html`<${Empty}>Waiting for two seconds of traffic.<//>`}
    <div class="scroll-x" tabindex="0" role="region" aria-label="Table of interfaces"><table class="plain">
      <thead><tr><th>Name</th><th>State</th><th>Rate</th><th>Packets</th><th>Addresses</th><th>Aliases</th><th>Actions</th></tr></thead>
      <tbody>${networks.map((one) => {
        const rate = rateOf(before, after, one.name);
        return html`<tr class=${one.name === name ? "chosen" : ""}>
          <td>${one.name}</td>
          <td>${one.up ? "up" : "down"}${one.recorder ? ", recorded" : ""}${one.allowed ? "" : ", not allowed"}</td>
          <td class="number">${rate ? bits(rate[1] * 8) : ""}</td>
          <td class="number">${rate ? perSecond(rate[0]) : ""}</td>
          <td>${one.addresses.join(", ")} ${one.kind === "replay" ? one.description : ""}</td>
          <td>${one.aliases.join(", ")}</td>
          <td class="buttons">
            <button type="button" aria-pressed=${one.name === name} onClick=${() => choose(one.name)}>Plot</button>
            ${one.allowed && html` <a class="button" href=${`#/capture?interface=${encodeURIComponent(one.name)}`} aria-label=${`Capture on ${one.name}`}>Capture</a>`}
          </td>
        </tr>`;
      })}</tbody>
    </table></div>
  </section>`;
}

