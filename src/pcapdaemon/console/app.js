// The page: who asks, what is shown, and the data that all views share.

import { html, render, useEffect, useRef, useState } from "./vendor/preact.js";
import { early, forgetToken, get, hasToken, keepToken, listen, whenUnauthorized } from "./api.js";
import { Problem } from "./parts.js";
import { Records } from "./records.js";
import { Fleet } from "./fleet.js";

const KEPT_LEVELS = 180;
const ABOUT_EVERY = 15000;

const VIEWS = [
  ["node", "Node"],
  ["capture", "Capture"],
  ["captures", "Captures"],
  ["fleet", "Fleet"],
];

// Views are loaded when they are shown, so that the first one is there sooner. The second of a pair
// shows one thing of the first.
const LOADERS = {
  node: () => import("./views/node.js").then((one) => [one.NodeView]),
  capture: () => import("./views/capture.js").then((one) => [one.CaptureView]),
  captures: () => Promise.all([import("./views/requests.js"), import("./views/request.js")]).then(([all, one]) => [all.RequestsView, one.RequestView]),
  fleet: () => import("./views/fleet.js").then((one) => [one.FleetView, one.FleetRequestView]),
};

// The component of a view, or null while it is loaded.
function useView(route) {
  const name = route.view in LOADERS ? route.view : "node";
  const [found, setFound] = useState(null);
  useEffect(() => {
    let gone = false;
    LOADERS[name]().then((components) => gone || setFound({ name, components }));
    return () => {
      gone = true;
    };
  }, [name]);
  if (found?.name !== name) return null;
  return (route.id && found.components[1]) || found.components[0];
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text; // somebody wrote the address by hand
  }
}

// The place in the page, as in the address: the name of a view, and what it shows.
function useRoute() {
  const read = () => {
    const [path, query] = location.hash.replace(/^#\/?/, "").split("?");
    const [view, ...rest] = path.split("/");
    const id = decoded(rest.join("/"));
    return { view: view || "node", id, query: new URLSearchParams(query || "") };
  };
  const [route, setRoute] = useState(read);
  useEffect(() => {
    const changed = () => setRoute(read());
    window.addEventListener("hashchange", changed);
    return () => window.removeEventListener("hashchange", changed);
  }, []);
  return route;
}

function useAbout(session) {
  const [found, setFound] = useState([null, null]);
  useEffect(() => {
    let stopped = false;
    const load = () =>
      get("/about").then(
        (about) => stopped || setFound([about, null]),
        (error) => stopped || setFound(([about]) => [about, error]),
      );
    load();
    const timer = setInterval(load, ABOUT_EVERY);
    return () => {
      stopped = true;
      clearInterval(timer);
    };
  }, [session]);
  return found;
}

// The levels of the last minutes, newest last, and whether they still come.
function useLevels(session) {
  const [levels, setLevels] = useState([]);
  const [state, setState] = useState([true, ""]);
  useEffect(() => {
    setLevels([]);
    const take = (_, level) => setLevels((known) => [...known.slice(1 - KEPT_LEVELS), level]);
    return listen("/rates", take, (connected, why) => setState([connected, why]));
  }, [session]);
  return [levels, state];
}

function useRecords(session) {
  const records = useRef(null);
  const [, setVersion] = useState(0);
  useEffect(() => {
    const made = new Records(() => setVersion((number) => number + 1));
    records.current = made;
    // from the moment on at which events come, so that none is missed in between
    const stop = listen("/events", (kind, event) => made.onEvent(kind, event.data), (connected) => (connected || !made.loaded) && made.load());
    return () => {
      made.stop();
      stop();
    };
  }, [session]);
  return records.current;
}

// What the console of the fleet knows; null on other nodes.
function useFleet(session, on) {
  const fleet = useRef(null);
  const [, setVersion] = useState(0);
  useEffect(() => {
    if (!on) return undefined;
    const made = new Fleet();
    fleet.current = made;
    const take = (_, found) => {
      made.take(found);
      setVersion((number) => number + 1);
    };
    return listen("/fleet/events", take, (connected) => connected && made.forget());
  }, [session, on]);
  return on ? fleet.current : null;
}

function Login({ wrong, onToken }) {
  const field = useRef(null);
  const [odd, setOdd] = useState(false);
  useEffect(() => field.current.focus(), []);
  const submit = (event) => {
    event.preventDefault();
    const token = field.current.value.trim();
    setOdd(!/^[\x21-\x7e]*$/.test(token));
    if (/^[\x21-\x7e]+$/.test(token)) onToken(token);
  };
  return html`<main class="login">
    <h1>pcapdaemon</h1>
    <form onSubmit=${submit}>
      <label for="token">The token of this node's API</label>
      <input type="text" name="username" autocomplete="username" value="pcapdaemon" hidden />
      <input id="token" type="password" autocomplete="current-password" ref=${field} aria-describedby="token-note" />
      ${odd ? html`<p class="problem" role="alert">A token has only letters, digits and signs of ASCII.</p>` : wrong && html`<p class="problem" role="alert">This token is wrong.</p>`}
      <button type="submit" class="main">Open</button>
      <p id="token-note" class="note">
        It is in the file that [http] token_file names. This tab keeps it until it is closed.
      </p>
    </form>
  </main>`;
}

function Header({ about, connected, route, onLeave }) {
  const views = VIEWS.filter(([name]) => name !== "fleet" || about?.console.fleet);
  return html`<header>
    <a class="skip" href="#main" onClick=${(event) => {
      event.preventDefault();
      document.querySelector("h1")?.focus();
    }}>Skip to the content</a>
    <strong class="name">${about ? about.node : "pcapdaemon"}</strong>
    <nav aria-label="Views">
      ${views.map(([name, title]) => html`<a href=${`#/${name}`} aria-current=${route.view === name ? "page" : undefined}>${title}</a>`)}
    </nav>
    <span class="connection" role="status">${connected ? "" : html`<span class="state bad"><span aria-hidden="true">✗</span> disconnected</span>`}</span>
    ${hasToken() && html`<button type="button" onClick=${onLeave}>Forget the token</button>`}
  </header>`;
}

function Page({ session, onLeave }) {
  const route = useRoute();
  const [about, problem] = useAbout(session);
  const [levels, [connected, why]] = useLevels(session);
  const records = useRecords(session);
  const fleet = useFleet(session, Boolean(about?.console.fleet) && (route.view === "fleet" || route.query.get("fleet") === "true"));
  useEffect(() => {
    const title = VIEWS.find(([name]) => name === route.view)?.[1] || "pcapdaemon";
    document.title = `${title} - ${about ? about.node : "pcapdaemon"}`;
  }, [route.view, about?.node]);
  const View = useView(route);
  const shown = useRef("");
  useEffect(() => {
    if (!View) return;
    const place = `${route.view}/${route.id}`;
    if (shown.current && shown.current !== place) document.querySelector("h1")?.focus();
    shown.current = place;
  }, [View, route.view, route.id]);
  const offline = connected ? null : { message: `Not connected: ${why || "the connection ended"} The page shows what it knew.` };
  return html`
    <${Header} about=${about} connected=${connected} route=${route} onLeave=${onLeave} />
    <main id="main">
      <${Problem} error=${offline || (about ? null : problem)} />
      ${about && records && View && html`<${View} key=${`${route.view}/${route.id}`} about=${about} levels=${levels} records=${records} fleet=${fleet} route=${route} />`}
    </main>`;
}

function App() {
  const [session, setSession] = useState(0);
  const [asks, setAsks] = useState(null);
  useEffect(() => {
    whenUnauthorized((known) => setAsks(known ? "again" : "first"));
  }, []);
  const open = (token) => {
    keepToken(token);
    setAsks(null);
    setSession((number) => number + 1);
  };
  const leave = () => {
    forgetToken();
    setAsks("first");
  };
  if (asks) return html`<${Login} wrong=${asks === "again"} onToken=${open} />`;
  return html`<${Page} session=${session} onLeave=${leave} key=${session} />`;
}

// what the first view needs, all at once
for (const path of ["/about", ...(/^#?\/?(node)?$/.test(location.hash) ? ["/interfaces", "/recorders"] : [])]) early(path);
const place = document.getElementById("app");
place.replaceChildren();
render(html`<${App} />`, place);
