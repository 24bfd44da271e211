// A terminal in a page: xterm.js on one side, a WebSocket to the server on the other. The bytes of both directions are in
// coderd/webterminal/messages.py. Where the way breaks the page comes back to its shell by the id that it keeps for this tab.
"use strict";

const OPEN = 1, INPUT = 2, RESIZE = 3, PING = 4, CLOSE = 5, SEEN = 6;
const OPENED = 0x81, OUTPUT = 0x82, EXITED = 0x83, PONG = 0x84, REFUSED = 0x85, PATH = 0x86;
const MAX_INPUT = 8192, MAX_PENDING = 4 << 20, MAX_BUFFERED = 64 << 10, SEEN_EVERY = 32 << 10;
const PING_INTERVAL = 2000, SILENCE_TIMEOUT = 5000, RETRY_FIRST = 250, RETRY_LONGEST = 5000;
const BROKEN = 4000;  // the code with which the server says that its own way to the workspace broke
const COMES_BACK = new Set(["offline", "unreachable", "busy", "no_web_apps"]);

const $ = (id) => document.getElementById(id);
const here = `terminal:${location.pathname}`;

// xterm.js writes styles into the page. These two let them through a policy that knows no unsafe-inline.
const nonce = document.querySelector("meta[name=style-nonce]").content;
const createElement = Document.prototype.createElement;
Document.prototype.createElement = function (name, ...rest) {
  const element = createElement.call(this, name, ...rest);
  if (name === "style") element.nonce = nonce;
  return element;
};
const setAttribute = Element.prototype.setAttribute;
Element.prototype.setAttribute = function (name, value) {
  if (name === "style") this.style.cssText = value;
  else setAttribute.call(this, name, value);
};

const terminal = new Terminal({
  cursorBlink: true,
  scrollback: 5000,
  fontSize: 14,
  fontFamily: "ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace",
  theme: { background: "#0d1117", foreground: "#e6edf3" },
  macOptionIsMeta: true,
});
const fit = new FitAddon.FitAddon();
terminal.loadAddon(fit);
terminal.open($("terminal"));
fit.fit();
terminal.focus();

class Session {
  constructor() {
    this.id = readId();
    this.place = 0n;      // behind the last byte that was handed to the terminal
    this.shown = 0n;      // behind the last byte that it has shown
    this.told = 0n;       // what the server knows of that
    this.pending = [];    // what was typed or pasted, in pieces, and waits for the socket
    this.nPending = 0;
    this.retry = RETRY_FIRST;
    this.hasEnded = false;
    this.isOpened = false;
    this.generation = 0;
  }

  connect() {
    this.isOpened = false;
    this.heardAt = performance.now();
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const socket = new WebSocket(`${scheme}://${location.host}${location.pathname}/ws`);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => this.send(OPEN, this.opening());
    socket.onmessage = (event) => { if (socket === this.socket) this.hear(new Uint8Array(event.data)); };
    socket.onclose = (event) => { if (socket === this.socket) this.lose(event.code); };
    this.socket = socket;
  }

  opening() {
    const body = new Uint8Array(12 + (this.id ? this.id.length : 0));
    const view = new DataView(body.buffer);
    view.setBigUint64(0, this.place);
    view.setUint16(8, terminal.rows);
    view.setUint16(10, terminal.cols);
    if (this.id) body.set(this.id, 12);
    return body;
  }

  send(kind, body) {
    if (!this.socket || this.socket.readyState !== WebSocket.OPEN) return false;
    const message = new Uint8Array(1 + body.length);
    message[0] = kind;
    message.set(body, 1);
    this.socket.send(message);
    return true;
  }

  hear(message) {
    if (message[0] !== PATH) this.heardAt = performance.now();  // which the server says, and not the workspace
    const body = message.subarray(1), view = new DataView(body.buffer, body.byteOffset, body.length);
    switch (message[0]) {
      case OPENED: return this.take(view.getBigUint64(0), body.slice(8));
      case OUTPUT: return this.show(body);
      case EXITED: return this.finish(`The shell has ended with code ${body[0]}.`);
      case PONG: return showLatency(performance.now() - view.getFloat64(0));
      case REFUSED: return this.handleRefused(new TextDecoder().decode(body));
      case PATH: return showPath(new TextDecoder().decode(body));
    }
  }

  take(place, id) {
    if (place !== this.place) terminal.reset();  // this shell's output from there on is all that is known of it
    this.id = id;
    keepId(id);
    this.place = this.shown = this.told = place;
    this.retry = RETRY_FIRST;
    this.isOpened = true;
    this.generation += 1;
    show("connected");
    notice("");
    this.ping();
  }

  show(data) {
    this.place += BigInt(data.length);
    const place = this.place, generation = this.generation;
    terminal.write(data, () => {
      if (generation !== this.generation) return;
      this.shown = place;
      if (this.shown - this.told >= BigInt(SEEN_EVERY)) this.tellSeen();
    });
  }

  tellSeen() {
    const body = new Uint8Array(8);
    new DataView(body.buffer).setBigUint64(0, this.shown);
    if (this.send(SEEN, body)) this.told = this.shown;
  }

  handleRefused(text) {
    const cut = text.indexOf(" "), code = text.slice(0, cut), sentence = text.slice(cut + 1);
    if (code === "no_session") {  // it ended while this page was away
      this.id = null;
      this.finish("The shell has ended while you were away.");
    } else if (COMES_BACK.has(code)) {
      notice(`${sentence} Trying again.`);
    } else {
      if (code === "revoked") forgetId();
      const again = { taken_over: "Continue here", signed_out: "Sign in" }[code];
      this.finish(sentence, again ?? "Try again", code);
    }
  }

  lose(code) {
    this.isOpened = false;
    if (this.hasEnded) return;
    if (!this.id) show("waiting");
    else show(code === BROKEN ? "path broke, reconnecting" : "connection lost, reconnecting");
    $("latency").textContent = "";
    setTimeout(() => { if (!this.hasEnded) this.connect(); }, this.retry * (0.5 + Math.random()));
    this.retry = Math.min(this.retry * 2, RETRY_LONGEST);
  }

  finish(sentence, again = "New shell", code = "") {
    this.hasEnded = true;
    if (code === "") forgetId();
    show("ended");
    showPath("");
    $("latency").textContent = "";
    notice(sentence);
    $("again").textContent = again;
    $("again").hidden = false;
    $("end").hidden = true;
    $("again").onclick = () => location.reload();
    this.socket.close();
    $("again").focus();
  }

  type(bytes) {
    if (this.hasEnded || !this.isOpened) return;  // what is typed while the way is away is lost
    if (this.nPending + bytes.length > MAX_PENDING) return notice("That is too much to paste at once: paste it in parts, or copy it as a file.");
    for (let at = 0; at < bytes.length; at += MAX_INPUT) this.pending.push(bytes.subarray(at, at + MAX_INPUT));
    this.nPending += bytes.length;
    this.drain();
  }

  drain() {
    while (this.pending.length && this.isOpened && this.socket.bufferedAmount < MAX_BUFFERED) {
      const piece = this.pending.shift();
      this.nPending -= piece.length;
      this.send(INPUT, piece);
    }
    if (!this.isOpened) { this.pending = []; this.nPending = 0; }
    if (this.pending.length) setTimeout(() => this.drain(), 20);
  }

  resize({ rows, cols }) {
    const body = new Uint8Array(4), view = new DataView(body.buffer);
    view.setUint16(0, rows);
    view.setUint16(2, cols);
    if (this.isOpened) this.send(RESIZE, body);
  }

  ping() {
    const body = new Uint8Array(8);
    new DataView(body.buffer).setFloat64(0, performance.now());
    this.send(PING, body);
  }

  beat() {
    if (this.hasEnded) return;
    if (performance.now() - this.heardAt > SILENCE_TIMEOUT) {
      const socket = this.socket;
      this.socket = null;   // its own end, which may take long, is nobody's business
      socket.close();
      this.heardAt = performance.now();
      this.lose(0);
    } else if (this.isOpened) {
      this.ping();
      if (this.shown !== this.told) this.tellSeen();
    }
  }
}

function readId() {
  try {
    const text = sessionStorage.getItem(here);
    return text ? Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)) : null;
  } catch { return null; }
}
function keepId(id) { sessionStorage.setItem(here, btoa(String.fromCharCode(...id))); }
function forgetId() { sessionStorage.removeItem(here); }

function show(state) { $("state").textContent = state; $("state").dataset.state = state; }
function showPath(text) { $("path").textContent = text; $("path").dataset.kind = text.split(" ")[0]; }
function showLatency(ms) { $("latency").textContent = `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`; }
function notice(text) { $("notice").textContent = text; $("notice").hidden = !text; }

const session = new Session();
const encoder = new TextEncoder();
terminal.onData((text) => session.type(encoder.encode(text)));
terminal.onBinary((text) => session.type(Uint8Array.from(text, (letter) => letter.charCodeAt(0) & 255)));
terminal.onResize((size) => session.resize(size));
terminal.attachCustomKeyEventHandler((event) => {
  const isCopy = event.ctrlKey && !event.altKey && event.code === "KeyC" && terminal.hasSelection();
  if (isCopy && event.type === "keydown") {  // Ctrl-C copies what is selected, and interrupts where nothing is
    document.execCommand("copy");
    terminal.clearSelection();
    event.preventDefault();
  }
  const isPaste = event.ctrlKey && event.shiftKey && event.code === "KeyV";  // the browser's own paste event follows
  return !isCopy && !isPaste;
});
$("end").onclick = () => { session.send(CLOSE, new Uint8Array()); };
new ResizeObserver(() => fit.fit()).observe($("terminal"));
setInterval(() => session.beat(), PING_INTERVAL);
addEventListener("online", () => session.beat());
session.connect();
