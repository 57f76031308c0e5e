// Talks to the API of the daemon that served this page. The token is kept until the tab is closed.

const KEY = "pcapdaemon-token";
const RETRY_FIRST = 1000;
const RETRY_LONGEST = 15000;
const SILENT_AFTER = 40000; // the daemon sends something every 15 seconds

// Where the API is: the page may be behind a proxy, below a path.
export const BASE = new URL("..", import.meta.url).pathname.replace(/\/$/, "");

let onUnauthorized = () => {};

// Calls `ask` when the API wants a token, or another one.
export function whenUnauthorized(ask) {
  onUnauthorized = ask;
}

export function keepToken(token) {
  sessionStorage.setItem(KEY, token);
}

export function forgetToken() {
  sessionStorage.removeItem(KEY);
}

export function hasToken() {
  return sessionStorage.getItem(KEY) !== null;
}

// What the API answered with an error. `status` is 0 if the daemon can't be reached.
export class Refused extends Error {
  constructor(status, body) {
    super(body.detail || body.title || `status ${status}`);
    this.status = status;
    this.problems = body.errors || [];
    this.hint = body.hint || "";
  }
}

async function send(method, path, body, signal) {
  const headers = {};
  const token = sessionStorage.getItem(KEY);
  if (token !== null) headers["Authorization"] = `Bearer ${token}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const text = body === undefined ? undefined : JSON.stringify(body);
  let response;
  try {
    response = await fetch(BASE + path, { method, headers, body: text, signal, cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, { detail: "The daemon can't be reached." });
  }
  if (response.ok) return response;
  const found = await response.json().catch(() => ({}));
  if (response.status === 401) onUnauthorized(token !== null);
  throw new Refused(response.status, found);
}

const begun = new Map();

// Asks for something before the view that needs it is there: the next `get` of the path has it.
export function early(path) {
  const asked = send("GET", path);
  asked.catch(() => {}); // whoever gets it sees the error
  begun.set(path, asked);
}

export async function get(path, signal) {
  const asked = begun.get(path);
  begun.delete(path);
  return (await (asked || send("GET", path, undefined, signal))).json();
}

export async function post(path, body, signal) {
  return (await send("POST", path, body, signal)).json();
}

export async function remove(path) {
  return (await send("DELETE", path)).json();
}

export function pathOf(id, ...rest) {
  return ["/captures", id, ...rest].map((one, n) => (n === 0 ? one : encodeURIComponent(one))).join("/");
}

// Reads server-sent events until the function that it returns is called, and connects again when
// the connection ends. It uses fetch because EventSource can't send a token.
export function listen(path, onEvent, onState) {
  let stopped = false;
  let connection = new AbortController();
  let pause = RETRY_FIRST;
  const wait = (ms) => new Promise((done) => setTimeout(done, ms));
  // browsers allow six connections to a server: a page that nobody sees holds none
  const onHidden = () => document.hidden && connection.abort();
  document.addEventListener("visibilitychange", onHidden);
  (async () => {
    while (!stopped) {
      await visible();
      if (stopped) return;
      connection = new AbortController();
      try {
        const response = await send("GET", path, undefined, connection.signal);
        onState(true, "");
        pause = RETRY_FIRST;
        await readEvents(response.body, onEvent, connection);
        onState(false, "The connection ended.");
      } catch (error) {
        if (stopped) return;
        if (document.hidden) continue;
        onState(false, error.name === "AbortError" ? "The daemon has sent nothing for a while." : error.message);
        if (error.status === 401) return; // another token is needed first
      }
      await wait(pause);
      pause = Math.min(pause * 2, RETRY_LONGEST);
    }
  })();
  return () => {
    stopped = true;
    document.removeEventListener("visibilitychange", onHidden);
    connection.abort();
  };
}

function visible() {
  if (!document.hidden) return undefined;
  return new Promise((done) => {
    const changed = () => {
      if (document.hidden) return;
      document.removeEventListener("visibilitychange", changed);
      done();
    };
    document.addEventListener("visibilitychange", changed);
  });
}

async function readEvents(stream, onEvent, connection) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = "";
  for (;;) {
    const timer = setTimeout(() => connection.abort(), SILENT_AFTER);
    const { value, done } = await reader.read().finally(() => clearTimeout(timer));
    if (done) return;
    buffer += value;
    const parts = buffer.split(/\r?\n\r?\n/);
    buffer = parts.pop();
    for (const part of parts) readEvent(part, onEvent);
  }
}

function readEvent(text, onEvent) {
  let name = "message";
  const data = [];
  for (const line of text.split(/\r?\n/)) {
    if (line.startsWith("event:")) name = line.slice(6).trim();
    if (line.startsWith("data:")) data.push(line.slice(5).trim());
  }
  if (data.length) onEvent(name, JSON.parse(data.join("\n")));
}

// Has the browser save what a path returns. It is in memory for that: links are only for one node.
export async function downloadFrom(path, name) {
  const response = await send("GET", path);
  const anchor = document.createElement("a");
  anchor.href = URL.createObjectURL(await response.blob());
  anchor.download = name.replaceAll(/[^A-Za-z0-9._-]/g, "_");
  anchor.click();
  setTimeout(() => URL.revokeObjectURL(anchor.href), 60000);
}

// Has the browser download a savefile. A browser can't send a token with a download, so the API
// makes a link that works once.
export async function download(id, name) {
  const link = await post(pathOf(id, "files", name, "link"), {});
  const anchor = document.createElement("a");
  anchor.href = BASE + link.href;
  anchor.download = name;
  anchor.click();
}
