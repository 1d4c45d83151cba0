// Antiphon's page. The one script is loaded twice: by the page, where it is the app, and by the page's
// AudioWorklet, where it is the two audio processors. (The page's policy allows no script but a file of
// this origin, so a worklet made from a blob or a data URL would not load.)
//
//   microphone -> Capture (worklet) -> outbox -> Connection -> gateway
//   loudspeaker <- Player (worklet) <- audio_response <-------'
//
// Contents: resampling · audio processors · sound · connection · view · voices · app.

const inWorklet = typeof AudioWorkletGlobalScope !== "undefined";

const STREAM_RATE_HZ = 16000;
const CHUNK_SAMPLES = 1600; // 100 ms

// ---- resampling

/**
 * Converts a stream of samples from one rate to another, band-limited: a polyphase filter bank of
 * Kaiser-windowed sincs, 80 dB down from the lower Nyquist frequency on, flat up to 0.84 of it. Output is
 * aligned with the input and waits for 32 zero crossings of it, 2 ms at 16 kHz.
 */
class Resampler {
  static #ZERO_CROSSINGS = 32;
  static #BETA = 7.86;
  static #CUTOFF = 0.92;

  #bank = []; // one filter for each fraction of a sample an output can fall on
  #up;
  #down;
  #half = 0; // input samples that an output needs on either side
  #input; // samples not yet done with
  #filled;
  #phase = 0;

  constructor(fromHz, toHz) {
    const divisor = greatestCommonDivisor(fromHz, toHz);
    this.#up = toHz / divisor;
    this.#down = fromHz / divisor;
    if (fromHz !== toHz) this.#design(Math.min(1, toHz / fromHz) * Resampler.#CUTOFF);
    this.#input = new Float32Array(4096);
    this.#filled = this.#half; // silence before the beginning
  }

  /** Returns the samples that are certain after `samples`; they are valid until the next call. */
  push(samples) {
    if (this.#up === this.#down) return samples;
    this.#append(samples);
    const span = 2 * this.#half + 1;
    const output = new Float32Array(Math.ceil(((this.#filled + 1) * this.#up) / this.#down));
    let count = 0;
    let start = 0;
    while (start + span <= this.#filled) {
      const weights = this.#bank[this.#phase];
      let sum = 0;
      for (let tap = 0; tap < span; tap++) sum += weights[tap] * this.#input[start + tap];
      output[count++] = sum;
      this.#phase += this.#down;
      start += Math.floor(this.#phase / this.#up);
      this.#phase %= this.#up;
    }
    this.#input.copyWithin(0, start, this.#filled);
    this.#filled -= start;
    return output.subarray(0, count);
  }

  /** Returns the rest of a stream that has ended. */
  flush() {
    return this.push(new Float32Array(this.#half));
  }

  #append(samples) {
    if (this.#filled + samples.length > this.#input.length) {
      const larger = new Float32Array(2 * (this.#filled + samples.length));
      larger.set(this.#input);
      this.#input = larger;
    }
    this.#input.set(samples, this.#filled);
    this.#filled += samples.length;
  }

  #design(cutoff) {
    this.#half = Math.ceil(Resampler.#ZERO_CROSSINGS / cutoff);
    for (let phase = 0; phase < this.#up; phase++) {
      const weights = new Float32Array(2 * this.#half + 1);
      let gain = 0;
      for (let tap = 0; tap < weights.length; tap++) {
        const distance = tap - this.#half - phase / this.#up;
        weights[tap] = sinc(cutoff * distance) * kaiser(distance / (this.#half + 1), Resampler.#BETA);
        gain += weights[tap];
      }
      this.#bank.push(weights.map((weight) => weight / gain));
    }
  }
}

function greatestCommonDivisor(a, b) {
  return b === 0 ? a : greatestCommonDivisor(b, a % b);
}

function sinc(x) {
  return x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x);
}

function kaiser(x, beta) {
  return bessel0(beta * Math.sqrt(Math.max(0, 1 - x * x))) / bessel0(beta);
}

function bessel0(x) {
  let sum = 1;
  let term = 1;
  for (let k = 1; term > 1e-9 * sum; k++) {
    term *= (x / (2 * k)) ** 2;
    sum += term;
  }
  return sum;
}

// ---- audio processors (in the worklet)

const Processor = inWorklet ? AudioWorkletProcessor : Object;

/** Posts what it hears as `{pcm}`, 100 ms of PCM16 at 16 kHz each; told "end", the rest and `{ended}`. */
class Capture extends Processor {
  #resampler = new Resampler(Math.round(globalThis.sampleRate), STREAM_RATE_HZ);
  #chunk = new Int16Array(CHUNK_SAMPLES);
  #filled = 0;
  #ended = false;

  constructor() {
    super();
    this.port.onmessage = () => this.#end();
  }

  process([[samples]]) {
    if (samples && !this.#ended) this.#take(this.#resampler.push(samples));
    return !this.#ended;
  }

  #take(samples) {
    for (const sample of samples) {
      this.#chunk[this.#filled++] = Math.round(Math.max(-1, Math.min(sample, 1)) * 32767);
      if (this.#filled === CHUNK_SAMPLES) this.#post();
    }
  }

  #post() {
    const pcm = this.#chunk.slice(0, this.#filled).buffer;
    this.port.postMessage({ pcm }, [pcm]);
    this.#filled = 0;
  }

  #end() {
    if (this.#ended) return;
    this.#ended = true;
    this.#take(this.#resampler.flush());
    if (this.#filled) this.#post();
    this.port.postMessage({ ended: true });
  }
}

/**
 * Plays the pieces it is sent, `{pcm, rateHz}`, without a gap between them and without a click where they
 * run out: every start and end is a ramp of 5 ms, and no sample is lost to a piece that comes late. Told
 * "stop", it is silent after 5 ms and forgets what it has. Posts `{playing}`, and once it is silent again
 * `{playing: false, playedMs}`, what was really played since.
 */
class Player extends Processor {
  static #FADE_S = 0.005;
  static #PREBUFFER_S = { least: 0.06, most: 0.2, step: 0.04 };
  static #LATE_S = 0.4; // audio that comes so soon after silence was late, and no new answer
  static #MOST_QUEUED_S = 60; // the gateway sends at most 250 ms ahead: anything beyond this is dropped

  #queue = []; // {samples, rateHz}
  #queuedS = 0;
  #resampler = null;
  #rateHz = 0;
  #ready = new Float32Array(0); // samples at the output's rate
  #gain = 0;
  #playing = false;
  #stopping = false;
  #prebufferS = Player.#PREBUFFER_S.least;
  #waitedS = 0;
  #silentS = Infinity;
  #played = 0;

  constructor() {
    super();
    this.port.onmessage = ({ data }) => (data === "stop" ? this.#stop() : this.#enqueue(data));
  }

  process(_inputs, [[output]]) {
    const blockS = output.length / sampleRate;
    if (this.#playing) this.#render(output);
    else if (this.#queue.length) this.#maybeStart(output, blockS);
    else this.#silentS += blockS;
    return true;
  }

  #enqueue({ pcm, rateHz }) {
    if (!pcm.byteLength || this.#queuedS > Player.#MOST_QUEUED_S) return;
    const samples = new Float32Array(new Int16Array(pcm)).map((sample) => sample / 32768);
    if (!this.#playing && !this.#queue.length && this.#silentS < Player.#LATE_S) {
      const { most, step } = Player.#PREBUFFER_S;
      this.#prebufferS = Math.min(most, this.#prebufferS + step);
    }
    this.#queue.push({ samples, rateHz });
    this.#queuedS += samples.length / rateHz;
  }

  /** Waits until enough is there, or until enough time has passed for an answer that is shorter. */
  #maybeStart(output, blockS) {
    this.#waitedS += blockS;
    if (Math.max(this.#queuedS, this.#waitedS) < this.#prebufferS) return;
    if (this.#silentS > Player.#LATE_S) {
      const { least, step } = Player.#PREBUFFER_S;
      this.#prebufferS = Math.max(least, this.#prebufferS - step / 4);
      this.#resampler = null;
    }
    this.#playing = true;
    this.#played = 0;
    this.#gain = 0;
    this.port.postMessage({ playing: true });
    this.#render(output);
  }

  #render(output) {
    const fade = Math.round(Player.#FADE_S * sampleRate);
    if (!this.#stopping) this.#prepare(output.length + fade);
    const ready = this.#ready;
    const count = Math.min(output.length, ready.length);
    for (let index = 0; index < count; index++) {
      const rising = ready.length - index > fade;
      this.#gain = rising ? Math.min(1, this.#gain + 1 / fade) : Math.max(0, this.#gain - 1 / fade);
      output[index] = ready[index] * this.#gain;
    }
    this.#played += count;
    this.#ready = ready.subarray(count);
    if (!this.#ready.length) this.#fallSilent();
  }

  /** Resamples until `count` samples are ready or no more are here. */
  #prepare(count) {
    while (this.#ready.length < count && this.#queue.length) {
      const piece = this.#queue[0];
      if (piece.rateHz !== this.#rateHz || !this.#resampler) {
        this.#rateHz = piece.rateHz;
        this.#resampler = new Resampler(piece.rateHz, Math.round(sampleRate));
      }
      const samples = piece.samples.subarray(0, 128);
      piece.samples = piece.samples.subarray(samples.length);
      if (!piece.samples.length) this.#queue.shift();
      this.#queuedS = this.#queue.length ? this.#queuedS - samples.length / piece.rateHz : 0;
      this.#ready = joined(this.#ready, this.#resampler.push(samples));
    }
  }

  #stop() {
    this.#queue = [];
    this.#queuedS = this.#waitedS = 0;
    if (!this.#playing) return;
    this.#ready = this.#ready.subarray(0, Math.round(Player.#FADE_S * sampleRate));
    this.#stopping = true;
    if (!this.#ready.length) this.#fallSilent();
  }

  #fallSilent() {
    if (this.#stopping) this.#resampler = null;
    this.#playing = this.#stopping = false;
    this.#silentS = this.#waitedS = 0;
    this.port.postMessage({ playing: false, playedMs: (1000 * this.#played) / sampleRate });
  }
}

function joined(first, second) {
  const both = new Float32Array(first.length + second.length);
  both.set(first);
  both.set(second, first.length);
  return both;
}

if (inWorklet) {
  registerProcessor("capture", Capture);
  registerProcessor("player", Player);
}

// ---- sound (in the page)

/**
 * The browser's audio: one context, the player, and at most one microphone. Make it inside a gesture, and
 * `load()` it when the server is there, which has the worklet; what it is given to play waits for that.
 */
class Sound {
  #player;
  #loading = null;
  #loaded;
  #madeAt = performance.now();
  #clock = { audio: -1, wall: 0 };

  constructor() {
    if (navigator.audioSession) navigator.audioSession.type = "play-and-record"; // iOS
    this.context = new AudioContext({ latencyHint: "interactive" });
    void this.context.resume();
    this.heard = new AnalyserNode(this.context, { fftSize: 1024 });
    this.said = new AnalyserNode(this.context, { fftSize: 1024 });
    this.ready = new Promise((resolve) => (this.#loaded = resolve));
  }

  /** Calls `onPlaying` whenever the loudspeaker begins or ends to say something. May reject; try again then. */
  load(onPlaying) {
    this.#loading ??= this.#load(onPlaying);
    return this.#loading;
  }

  async #load(onPlaying) {
    try {
      await this.context.audioWorklet.addModule(import.meta.url);
    } catch (error) {
      this.#loading = null;
      throw error;
    }
    this.#player = new AudioWorkletNode(this.context, "player", { numberOfInputs: 0, outputChannelCount: [1] });
    this.#player.port.onmessage = ({ data }) => onPlaying(data.playing, data.playedMs);
    this.#player.connect(this.said).connect(this.context.destination);
    this.#loaded();
  }

  /** Whether it still runs: on iOS a context can be "running" with its clock standing still. */
  get alive() {
    const { audio, wall } = this.#clock;
    this.#clock = { audio: this.context.currentTime, wall: performance.now() };
    if (this.#clock.wall - this.#madeAt < 1000) return true; // it may not have begun to run
    return this.context.state === "running" && (this.#clock.wall - wall < 100 || this.#clock.audio > audio);
  }

  async play(pcm, rateHz) {
    if (!this.#loading) return; // there is nothing to play it on
    await this.ready;
    this.#player.port.postMessage({ pcm, rateHz }, [pcm]);
  }

  /** Is silent in 5 ms, and forgets what it was given to play. */
  stop() {
    this.#player?.port.postMessage("stop");
  }

  /** Passes the microphone to `onChunk` in pieces of PCM16; call the result to end it. */
  capture(media, onChunk) {
    const source = new MediaStreamAudioSourceNode(this.context, { mediaStream: media });
    const node = new AudioWorkletNode(this.context, "capture", { channelCount: 1, channelCountMode: "explicit" });
    source.connect(this.heard);
    source.connect(node).connect(this.context.destination); // it puts nothing out, but is run only so
    const ended = new Promise((resolve) => {
      node.port.onmessage = ({ data }) => (data.ended ? resolve() : onChunk(data.pcm));
    });
    return async () => {
      node.port.postMessage("end");
      const patience = new Promise((resolve) => setTimeout(resolve, 500)); // a context may be frozen
      await Promise.race([ended, patience]);
      release(media);
      source.disconnect();
      node.disconnect();
    };
  }
}

function release(media) {
  for (const track of media.getTracks()) track.stop();
}

const MICROPHONE_TROUBLE = {
  NotAllowedError: [
    "The microphone is blocked",
    "Allow it beside the address at the top of the window, then press the button again. Until then you can type.",
  ],
  NotFoundError: ["No microphone was found", "Connect one and press the button again. Until then you can type."],
  NotReadableError: [
    "The microphone cannot be opened",
    "Another program may be using it. Close that one and press the button again. Until then you can type.",
  ],
  NotSupportedError: [
    "Microphone and loudspeaker do not go together",
    "This browser wants both at one sample rate. Choose another microphone, or set both to 48 kHz in the system.",
  ],
  InsecureContext: [
    "The browser gives this address no microphone",
    "It does so only over https, or on the server’s own machine at http://127.0.0.1. You can still type.",
  ],
  Unsupported: [
    "This browser cannot take part in a conversation",
    "A current Chrome, Edge, Firefox or Safari can. You can still type.",
  ],
  Muted: [
    "The microphone is muted",
    "The device or the system has switched it off. If it stays so, press the button twice.",
  ],
  Still: [
    "Nothing comes from the microphone",
    "The browser’s audio stands still, as where it finds no loudspeaker. Connect one and reload the page, or type.",
  ],
  Ended: ["The microphone was disconnected", "Connect it again, or choose another, and press the button."],
};
MICROPHONE_TROUBLE.SecurityError = MICROPHONE_TROUBLE.NotAllowedError;
MICROPHONE_TROUBLE.OverconstrainedError = MICROPHONE_TROUBLE.NotFoundError;
MICROPHONE_TROUBLE.AbortError = MICROPHONE_TROUBLE.NotReadableError;

/** Returns the kind of trouble for which there can be no microphone here at all, or undefined. */
function microphoneObstacle() {
  if (!window.isSecureContext) return "InsecureContext";
  return window.AudioWorkletNode && navigator.mediaDevices?.getUserMedia ? undefined : "Unsupported";
}

// ---- connection

const RETRY_MS = [0, 300, 1200, 2700, 4800, 7000, 7000, 7000, 7000, 7000];
const CROWDED_RETRY = 2; // where to begin in RETRY_MS when the server said it is too busy
const STABLE_MS = 10_000; // a connection that lived so long makes the next failure the first
const OPEN_TIMEOUT_MS = 10_000;

// What follows from a close code, and the words for when no error message came first.
const CLOSED = {
  1000: ["rest", "The conversation is over."],
  1001: ["retry", "The server is restarting."],
  1002: ["stop", "Server and page do not understand each other."],
  1009: ["stop", "A message was too big for the server."],
  1011: ["retry", "The server has a fault."],
  1013: ["retry", "The server is full."],
  4400: ["stop", "Server and page do not understand each other."],
  4401: ["token", "The token is not valid here."],
  4403: ["stop", "The server does not accept connections from this page."],
  4408: ["rest", "Nothing was said for a while."],
  4409: ["stop", "The conversation goes on elsewhere."],
  4413: ["retry", "This device reads too slowly."],
  4429: ["retry", "There are too many conversations."],
  4440: ["token", "The token has expired."],
  4441: ["retry", "The conversation reached its longest duration."],
};
const LOST = ["retry", "The connection was lost."];

/**
 * An authenticated connection to the gateway that mends itself where that makes sense.
 *
 * Calls `onState(state, words)` with "connecting", "open", "waiting" (it will try again), and at the end with
 * "rest" (nothing is wrong), "token" (another is needed), "gone" (tried in vain) or "stop" (trying again is of
 * no use); `onMessage(message)` for everything the gateway says but auth_success and fatal errors.
 */
class Connection {
  #token;
  #socket = null;
  #attempt = 0;
  #timer;
  #openedAt = 0;
  #verdict = null; // the fatal error that came before a close
  #onState;
  #onMessage;

  constructor(onState, onMessage) {
    this.#onState = onState;
    this.#onMessage = onMessage;
    const retryNow = () => this.state === "waiting" && !document.hidden && this.#probe();
    document.addEventListener("visibilitychange", retryNow);
    window.addEventListener("online", retryNow);
  }

  state = "rest";

  /** Whether a message can be sent. A socket that the server has begun to close takes none. */
  get writable() {
    return this.state === "open" && this.#socket.readyState === WebSocket.OPEN;
  }

  get unsentBytes() {
    return this.#socket?.bufferedAmount ?? 0;
  }

  /** Connects with `token`, unless it is connected or about to be. */
  open(token) {
    if (this.state === "open" || this.state === "connecting") return;
    this.#token = token;
    this.#attempt = 0;
    this.#dial();
  }

  /** Writes one message; the connection must be writable. */
  send(type, fields) {
    this.#socket.send(JSON.stringify({ type, timestamp: Date.now(), ...fields }));
  }

  /** Takes the connection for dead, though the browser has not noticed. */
  abandon() {
    this.#closed(1006);
  }

  #dial() {
    this.#detach();
    this.#verdict = null;
    const url = new URL("ws", location.href);
    url.protocol = url.protocol.replace("http", "ws");
    const socket = (this.#socket = new WebSocket(url));
    socket.onopen = () => this.send("auth", { token: this.#token });
    socket.onmessage = ({ data }) => this.#receive(JSON.parse(data));
    socket.onclose = ({ code }) => this.#closed(code);
    this.#timer = setTimeout(() => this.abandon(), OPEN_TIMEOUT_MS);
    this.#enter("connecting");
  }

  #receive(message) {
    if (message.type === "auth_success") {
      clearTimeout(this.#timer);
      this.#openedAt = performance.now();
      this.#enter("open");
    } else if (message.type === "error" && message.details?.fatal) {
      this.#verdict = message;
    } else {
      this.#onMessage(message);
    }
  }

  #closed(code) {
    this.#detach();
    const error = this.#verdict;
    let [next, words] = CLOSED[code] ?? LOST;
    words = error?.message ?? words;
    if (error?.code === "AUTH_TIMEOUT") next = "retry";
    if (next === "retry" && error?.details.retryable === false) next = "stop";
    if (next !== "retry") return this.#enter(next, words);
    if (this.#openedAt && performance.now() - this.#openedAt > STABLE_MS) this.#attempt = 0;
    this.#openedAt = 0;
    if (code === 1013 || code === 4429) this.#attempt = Math.max(this.#attempt, CROWDED_RETRY);
    this.#retry(words, error?.details.retryAfterMs);
  }

  #retry(words, delayMs) {
    if (this.#attempt === RETRY_MS.length) return this.#enter("gone", words);
    delayMs ??= RETRY_MS[this.#attempt] * (0.8 + 0.4 * Math.random());
    this.#attempt++;
    this.#timer = setTimeout(() => document.hidden || this.#probe(), delayMs); // a hidden page waits to be seen
    this.#enter("waiting", words);
  }

  /** Asks whether the server is ready, and connects or goes on waiting. */
  async #probe() {
    clearTimeout(this.#timer);
    this.#enter("probing");
    let words;
    try {
      const answer = await fetch("readyz", { cache: "no-store", signal: AbortSignal.timeout(3000) });
      words = answer.ok ? undefined : "The server is not ready.";
    } catch {
      words = `The server does not answer at ${location.host}.`;
    }
    if (this.state !== "probing") return;
    if (words) this.#retry(words);
    else this.#dial();
  }

  #enter(state, words) {
    this.state = state;
    this.#onState(state, words);
  }

  #detach() {
    clearTimeout(this.#timer);
    if (!this.#socket) return;
    this.#socket.onopen = this.#socket.onmessage = this.#socket.onclose = null;
    this.#socket.close();
    this.#socket = null;
  }
}

// ---- view

const WELCOME = {
  ready: ["Press the button and speak.", "Your words appear as you say them, and the answer is spoken back."],
  asking: ["May this page hear you?", "The browser asks you for the microphone."],
  trouble: ["Not connected.", "What stands in the way is said below."],
  listening: ["Speak now.", "Press the button again when you are done, or just go on talking."],
};

/** What the page shows. Text from the server only ever becomes text. */
class View {
  static #PARTS = "state status about welcome log answer partial notice token again talk typed".split(" ");
  static #MOST_ROWS = 500;
  static #ANNOUNCE_MS = 1000; // a screen reader is told of no more than one state a second
  static #PASSING_MS = 8000;

  #announcing;
  #passing;

  constructor() {
    for (const id of View.#PARTS) this[id] = document.getElementById(id);
    this.typeForm = document.getElementById("type-form");
    this.tokenForm = document.getElementById("token-form");
  }

  /** Shows how things stand: `kind` is for the style, `words` for people. */
  setState(kind, words, listening) {
    const [heading, hint] = WELCOME[kind] ?? WELCOME.ready;
    this.welcome.firstElementChild.textContent = heading;
    this.welcome.lastElementChild.textContent = hint;
    this.state.dataset.state = kind;
    this.state.textContent = words;
    this.talk.classList.toggle("listening", listening);
    this.talk.lastElementChild.textContent = listening ? "Stop" : "Talk";
    this.#announcing ??= setTimeout(() => {
      this.#announcing = undefined;
      this.status.textContent = this.state.textContent;
    }, View.#ANNOUNCE_MS);
  }

  /** Tells of trouble, once more only if it is other trouble. */
  notify(title, words, { urgent = false, token = false, again = false, passing = false } = {}) {
    clearTimeout(this.#passing);
    const [heading, paragraph] = this.notice.children;
    this.#keepingInSight(() => {
      this.notice.setAttribute("role", urgent ? "alert" : "status");
      this.notice.dataset.urgent = urgent;
      this.notice.hidden = false;
      this.tokenForm.hidden = !token;
      this.again.hidden = !again;
      if (heading.textContent !== title) heading.textContent = title;
      if (paragraph.textContent !== words) paragraph.textContent = words;
    });
    if (passing) this.#passing = setTimeout(() => this.settle(), View.#PASSING_MS);
  }

  /** Takes the notice away. */
  settle() {
    clearTimeout(this.#passing);
    this.notice.hidden = true;
    for (const line of [...this.notice.children].slice(0, 2)) line.textContent = "";
  }

  /** Shows what is still being said by `side`, "partial" or "answer"; no words take it away. */
  showLive(side, words, timing = "") {
    this.#keepingInSight(() => {
      this[side].hidden = !words;
      this[side].querySelector(".words").textContent = words;
      showTiming(this[side].querySelector(".timing"), timing);
      if (words) this.welcome.hidden = true;
    });
  }

  /** Adds a finished turn of "you" or the "answer" to the conversation, and returns its row. */
  addTurn(side, words, { command, timing = "" } = {}) {
    const row = element("div", `turn ${side}`);
    row.append(element("p", "who", side === "you" ? "You" : "Antiphon"), element("p", "words", words));
    if (command) this.tag(row, command);
    const line = element("p", "timing");
    showTiming(line, timing);
    row.append(line);
    this.#keepingInSight(() => {
      this.welcome.hidden = true;
      this.log.append(row);
      if (this.log.childElementCount > View.#MOST_ROWS) this.log.firstElementChild.remove();
    });
    return row;
  }

  /** Marks a turn with the command that was recognised in it. */
  tag(row, command) {
    const tag = element("p", "tag", command);
    tag.prepend(element("span", "unseen", "Command: "));
    row.querySelector(".words").after(tag);
  }

  #keepingInSight(change) {
    const page = document.documentElement;
    const atEnd = page.scrollHeight - page.scrollTop - page.clientHeight < 80;
    change();
    if (atEnd) page.scrollTop = page.scrollHeight;
  }
}

function element(name, className, text = "") {
  const made = document.createElement(name);
  made.className = className;
  made.textContent = text;
  return made;
}

function showTiming(line, timing) {
  if (!line) return;
  line.hidden = !timing;
  line.textContent = timing;
}

// ---- voices

/**
 * The two levels of the last seconds: what the microphone hears rises from the middle line, what the
 * loudspeaker says hangs from it. Where motion is not wanted it is a still meter, redrawn four times a second.
 */
class Voices {
  static #BAR = { width: 3, pitch: 6, everyMs: 50, calmEveryMs: 250 };
  static #FLOOR_DB = -56;
  static #CEILING_DB = -18;

  #canvas;
  #bars = []; // [heard, said], 0 to 1, the latest last
  #latest = [0, 0];
  #drawnAt = 0;
  #running = false;
  #calm = matchMedia("(prefers-reduced-motion: reduce)");
  #samples = new Float32Array(1024);

  constructor(canvas, onLevel) {
    this.#canvas = canvas;
    this.onLevel = onLevel;
    new ResizeObserver(() => this.#draw()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#draw());
  }

  /** Follows `sound` for as long as `isActive()`, and until what was drawn has passed by. */
  follow(sound, isActive) {
    this.sound = sound;
    this.isActive = isActive;
    if (!this.#running) requestAnimationFrame((now) => this.#step(now));
    this.#running = true;
  }

  #step(now) {
    const active = this.isActive();
    const levels = active ? [this.#level(this.sound.heard), this.#level(this.sound.said)] : [0, 0];
    this.#latest = levels.map((level, side) => Math.max(level, this.#latest[side]));
    const { everyMs, calmEveryMs } = Voices.#BAR;
    if (now - this.#drawnAt >= (this.#calm.matches ? calmEveryMs : everyMs)) {
      this.#drawnAt = now;
      this.#bars.push(this.#latest);
      this.#bars.splice(0, this.#bars.length - this.#places);
      this.onLevel(this.#calm.matches ? 0 : this.#latest[0]);
      this.#latest = [0, 0];
      this.#draw();
    }
    this.#running = active || this.#bars.some(([heard, said]) => heard || said);
    if (this.#running) requestAnimationFrame((next) => this.#step(next));
  }

  #level(analyser) {
    analyser.getFloatTimeDomainData(this.#samples);
    return loudness(rootMeanSquare(this.#samples), Voices.#FLOOR_DB, Voices.#CEILING_DB);
  }

  get #places() {
    return Math.max(1, Math.floor(this.#canvas.clientWidth / Voices.#BAR.pitch));
  }

  #draw() {
    const { clientWidth: width, clientHeight: height } = this.#canvas;
    const scale = window.devicePixelRatio;
    this.#canvas.width = width * scale;
    this.#canvas.height = height * scale;
    const context = this.#canvas.getContext("2d");
    context.scale(scale, scale);
    const style = getComputedStyle(this.#canvas);
    const colors = ["--you", "--answer", "--line"].map((name) => style.getPropertyValue(name));
    const places = this.#places;
    for (let place = 0; place < places; place++) {
      const passing = this.#bars.at(place - places) ?? [0, 0];
      const levels = this.#calm.matches ? this.#meterAt(place, places) : passing;
      this.#drawBar(context, (place + 0.5) * (width / places), height / 2, levels, colors);
    }
  }

  /** A still meter, which fills from the left with the latest levels. */
  #meterAt(place, places) {
    return (this.#bars.at(-1) ?? [0, 0]).map((level) => (place < level * places ? 0.5 : 0));
  }

  #drawBar(context, x, middle, levels, [you, answer, line]) {
    const { width } = Voices.#BAR;
    context.fillStyle = line;
    context.fillRect(x - width / 2, middle - 0.5, width, 1);
    for (const [side, level] of levels.entries()) {
      if (!level) continue;
      const length = width + level * (middle - 2 - width);
      context.fillStyle = side ? answer : you;
      context.beginPath();
      context.roundRect(x - width / 2, side ? middle + 2 : middle - 2 - length, width, length, width / 2);
      context.fill();
    }
  }
}

function rootMeanSquare(samples) {
  let sum = 0;
  for (const sample of samples) sum += sample * sample;
  return Math.sqrt(sum / samples.length);
}

/** Where a level stands between two in dB, as 0 to 1; bent, so that the eye sees syllables. */
function loudness(level, floorDb, ceilingDb) {
  const db = 20 * Math.log10(level + 1e-9);
  return Math.max(0, Math.min(1, (db - floorDb) / (ceilingDb - floorDb))) ** 1.5;
}

// ---- app

/** How long the user waited for the first word of a transcript, and for the sound of an answer. */
class Stopwatch {
  static #VOICE = 0.01; // root mean square from which a chunk counts as speech: -40 dB
  static #PAUSE_MS = 1500; // a longer one begins a new utterance
  static #CHUNK_MS = 100;

  #beganAt = 0;
  #endedAt = 0;
  #wordMs = 0;

  heard(pcm, now) {
    if (rootMeanSquare(new Int16Array(pcm)) / 32768 < Stopwatch.#VOICE) return;
    if (now - this.#endedAt > Stopwatch.#PAUSE_MS) {
      this.#beganAt = now - Stopwatch.#CHUNK_MS;
      this.#wordMs = 0;
    }
    this.#endedAt = now;
  }

  typed(now) {
    this.#beganAt = this.#wordMs = 0;
    this.#endedAt = now;
  }

  recognised(now) {
    if (this.#beganAt) this.#wordMs ||= now - this.#beganAt;
  }

  /** Notes that an answer is heard, and returns what there is to say about it. */
  answered(now) {
    const said = [];
    if (this.#wordMs) said.push(`first word after ${seconds(this.#wordMs)}`);
    if (this.#endedAt) said.push(`answer after ${seconds(now - this.#endedAt)}`);
    this.#beganAt = this.#endedAt = this.#wordMs = 0;
    return said.join(" · ");
  }
}

function seconds(milliseconds) {
  return `${(milliseconds / 1000).toFixed(1)} s`;
}

const TOKEN_HELP = "Open the link that “make serve” printed last, or paste it here.";
const MOST_WAITING_CHUNKS = 50; // 5 s of speech may wait for a connection; then the oldest is given up
const MOST_UNSENT_BYTES = 64 * 1024; // 1.5 s of speech in the socket; what follows waits in the outbox
const ASKING_MS = 400; // a browser that takes so long for the microphone is asking its user
const STILL_MS = 3000; // the first chunk takes 100 ms
const ANSWER_OVER_MS = 2000; // silence after which an answer is taken to be complete

class App {
  #view = new View();
  #voices = new Voices(document.getElementById("voices"), (level) => {
    this.#view.talk.style.setProperty("--level", level.toFixed(3));
  });
  #connection = new Connection(
    (state, words) => this.#connectionChanged(state, words),
    (message) => this.#receive(message),
  );
  #token = "";
  #options = new URLSearchParams(location.search);

  #sound = null;
  #microphone = "off"; // -> asked -> given -> on -> off
  #asked = null; // what the browser was asked for last: {media, at}
  #endCapture = null;
  #patience = null; // runs until the first chunk comes
  #playing = false;
  #hushed = false; // the user stopped an answer: the rest of it is read, not heard
  #pieceAt = 0;

  #outbox = []; // PCM16 chunks, and null where the microphone was closed
  #typed = []; // commands that wait for the connection
  #stream = null; // {sequence, samples} while an audio stream is open

  #stopwatch = new Stopwatch();
  #answer = "";
  #timing = "";
  #answerOver;
  #lastTurn = { row: null, words: "", tagged: false };
  #trouble = null; // what the notice is about: "connection", "microphone", ...

  start() {
    const view = this.#view;
    view.talk.addEventListener("click", () => this.#toggle());
    view.again.addEventListener("click", () => this.#connect());
    onSubmit(view.typeForm, () => this.#type());
    onSubmit(view.tokenForm, () => this.#takeToken(view.token.value));
    window.addEventListener("hashchange", () => this.#readLink());
    window.addEventListener("pagehide", () => this.#stopListening());
    document.addEventListener("visibilitychange", () => this.#holdScreen());
    this.#token = storedToken();
    this.#readLink();
    if (!this.#token) this.#askForToken("A token is needed", TOKEN_HELP);
    void this.#showAbout();
    this.#show();
  }

  // -- the user

  #toggle() {
    if (this.#microphone === "off") this.#listen();
    else this.#stopListening();
  }

  /** Starts to listen. All that needs the gesture is asked for before the first await. */
  #listen() {
    if (!this.#token) return this.#askForToken("A token is needed", TOKEN_HELP, { focus: true });
    const obstacle = microphoneObstacle();
    if (obstacle) return this.#tellOfMicrophone(obstacle);
    this.#wakeSound();
    const processed = !this.#options.has("raw");
    const media = navigator.mediaDevices.getUserMedia({
      audio: {
        channelCount: 1,
        echoCancellation: processed,
        noiseSuppression: processed,
        autoGainControl: processed,
      },
    });
    this.#microphone = "asked";
    this.#asked = { media, at: performance.now() };
    setTimeout(() => this.#show(), ASKING_MS);
    this.#connect();
    void this.#startCapture(this.#asked, this.#sound);
    this.#show();
  }

  async #startCapture(asked, sound) {
    try {
      await this.#capture(asked, sound);
    } catch (error) {
      if (this.#asked === asked) this.#stopListening();
      this.#tellOfMicrophone(error.name in MICROPHONE_TROUBLE ? error.name : "NotReadableError");
    }
  }

  async #capture(asked, sound) {
    const media = await asked.media;
    if (this.#asked !== asked) return release(media);
    this.#microphone = "given";
    this.#endCapture = async () => release(media);
    this.#settled("microphone");
    this.#show();
    await sound.ready;
    if (this.#asked !== asked) return;
    this.#endCapture = sound.capture(media, (pcm) => this.#captured(pcm));
    this.#patience = setTimeout(() => this.#tellOfMicrophone("Still"), STILL_MS);
    this.#microphone = "on";
    this.#watch(media.getAudioTracks()[0]);
    this.#voices.follow(sound, () => this.#microphone === "on" || this.#playing);
    this.#holdScreen();
    this.#show();
  }

  #watch(track) {
    track.onended = () => {
      this.#stopListening();
      this.#tellOfMicrophone("Ended");
    };
    track.onmute = () => this.#tell("microphone", ...MICROPHONE_TROUBLE.Muted);
    track.onunmute = () => this.#settled("microphone");
  }

  /** Closes the microphone, sends what it has heard to the last sample, and is silent. */
  #stopListening() {
    const end = this.#endCapture;
    this.#endCapture = this.#asked = null;
    this.#microphone = "off";
    clearTimeout(this.#patience);
    if (end) {
      void end().then(() => {
        this.#outbox.push(null);
        this.#pump();
      });
    }
    this.#hush();
    this.#holdScreen();
    this.#show();
  }

  #type() {
    const words = this.#view.typed.value.trim();
    if (!words) return;
    if (!this.#token) return this.#askForToken("A token is needed", TOKEN_HELP, { focus: true });
    if (window.AudioWorkletNode) this.#wakeSound();
    this.#view.typed.value = "";
    this.#finishAnswer();
    this.#addUserTurn(words);
    this.#hushed = false;
    this.#stopwatch.typed(performance.now());
    this.#typed.push(words);
    this.#connect();
    this.#pump();
  }

  /** Has a running audio context; only a gesture may make one. */
  #wakeSound() {
    if (this.#sound?.alive) return;
    if (this.#microphone !== "off") this.#stopListening();
    void this.#sound?.context.close();
    this.#playing = false;
    this.#sound = new Sound();
    if (this.#connection.state === "open") void this.#loadSound();
  }

  async #loadSound() {
    try {
      await this.#sound?.load((playing) => this.#playerChanged(playing));
    } catch {
      this.#tell("sound", "There is no sound", "The browser could not start its audio. You can type, and read.");
    }
  }

  #hush() {
    const answering = this.#playing || performance.now() - this.#pieceAt < 300;
    if (!answering) return;
    this.#hushed = true;
    this.#sound?.stop();
  }

  async #holdScreen() {
    const wanted = this.#microphone === "on" && !document.hidden && navigator.wakeLock;
    void this.screen?.release();
    this.screen = wanted ? await navigator.wakeLock.request("screen").catch(() => null) : null;
  }

  // -- the token

  /** Takes the token out of the link, and out of sight. */
  #readLink() {
    const token = new URLSearchParams(location.hash.slice(1)).get("token");
    if (!token) return;
    history.replaceState(null, "", location.pathname + location.search);
    this.#takeToken(token);
  }

  #takeToken(text) {
    const token = text.trim().replace(/^.*#token=/, "");
    if (!token) return;
    this.#token = token;
    storeToken(token);
    this.#view.token.value = "";
    this.#settled("token");
    if (this.#connection.writable) this.#connection.send("auth", { token });
    else if (this.#connection.state === "token") this.#connect();
  }

  #forgetToken() {
    this.#token = "";
    storeToken("");
  }

  #askForToken(title, words, { focus = false, urgent = false } = {}) {
    this.#tell("token", title, words, { token: true, urgent });
    if (focus) this.#view.token.focus();
  }

  // -- the connection

  #connect() {
    this.#connection.open(this.#token);
  }

  #connectionChanged(state, words) {
    if (state !== "open") this.#forgetTurn();
    switch (state) {
      case "open":
        this.#settled("connection");
        void this.#loadSound();
        void this.#showAbout();
        this.#pump();
        break;
      case "waiting":
        this.#tell("connection", "No connection", this.#waitingWords(words), { again: true });
        break;
      case "rest":
        this.#giveUp();
        this.#tell("connection", "Closed for now", `${words} Press the button to go on.`);
        break;
      case "token":
        this.#giveUp();
        this.#forgetToken();
        this.#askForToken("Another token is needed", `${words} ${TOKEN_HELP}`, { urgent: true });
        break;
      case "gone":
        this.#giveUp();
        this.#tell("connection", "The server is gone", `${words} Is it running?`, { urgent: true, again: true });
        break;
      case "stop":
        this.#giveUp();
        this.#tell("connection", "The conversation has ended", words, { urgent: true, again: true });
        break;
    }
    this.#show();
  }

  /** Forgets what only the connection that was lost could have completed. */
  #forgetTurn() {
    this.#stream = null;
    this.#view.showLive("partial", "");
    this.#finishAnswer();
  }

  #waitingWords(words) {
    const meanwhile = this.#microphone === "on" ? " What you say meanwhile may not be heard." : "";
    return `${words} Trying again…${meanwhile}`;
  }

  /** Stops listening, and forgets what can no longer be sent. */
  #giveUp() {
    if (this.#microphone !== "off") this.#stopListening();
    this.#outbox = [];
    this.#typed = [];
  }

  #captured(pcm) {
    if (this.#patience) this.#settled("microphone");
    clearTimeout(this.#patience);
    this.#patience = null;
    this.#stopwatch.heard(pcm, performance.now());
    this.#outbox.push(pcm);
    this.#pump();
    if (this.#outbox.length <= MOST_WAITING_CHUNKS) return;
    this.#outbox.shift();
    if (this.#connection.state === "open") this.#connection.abandon(); // it takes nothing any more
  }

  /** Sends what waits, as far as the socket takes it. */
  #pump() {
    const connection = this.#connection;
    if (!connection.writable) return;
    for (const command of this.#typed.splice(0)) connection.send("command", { command });
    while (this.#outbox.length && connection.unsentBytes < MOST_UNSENT_BYTES) {
      this.#sendAudio(this.#outbox.shift());
    }
  }

  #sendAudio(pcm) {
    if (pcm === null) {
      const durationMs = (this.#stream?.samples * 1000) / STREAM_RATE_HZ;
      if (this.#stream) this.#connection.send("audio_stream_end", { duration: durationMs });
      this.#stream = null;
      return;
    }
    if (!this.#stream) {
      const config = { sampleRate: STREAM_RATE_HZ, format: "LINEAR16", language: this.#language };
      this.#connection.send("audio_stream_start", { config });
      this.#stream = { sequence: 0, samples: 0 };
    }
    this.#connection.send("audio_chunk", { data: toBase64(pcm), sequence: this.#stream.sequence++ });
    this.#stream.samples += pcm.byteLength / 2;
  }

  get #language() {
    const tag = this.#options.get("language") ?? navigator.language;
    return /^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*/.exec(tag)?.[0] ?? "en-US"; // some browsers say "en-US@posix"
  }

  // -- the gateway

  #receive(message) {
    switch (message.type) {
      case "recognition_result":
        return this.#recognised(message);
      case "audio_response":
        return this.#answered(message);
      case "error":
        return this.#refused(message);
    }
  }

  #recognised({ transcript, command, isFinal }) {
    if (transcript) this.#stopwatch.recognised(performance.now());
    if (!isFinal) return this.#view.showLive("partial", transcript);
    this.#view.showLive("partial", "");
    this.#hushed = false;
    const last = this.#lastTurn;
    if (command && last.row && !last.tagged && last.words === transcript) {
      this.#view.tag(last.row, command); // the final result once more, now with its command
      last.tagged = true;
    } else if (transcript) {
      this.#finishAnswer();
      this.#addUserTurn(transcript, command);
    }
  }

  #addUserTurn(words, command) {
    const row = this.#view.addTurn("you", words, { command });
    this.#lastTurn = { row, words, tagged: Boolean(command) };
  }

  #answered({ data, format, text }) {
    const now = performance.now();
    if (now - this.#pieceAt > 1000) this.#hushed = false;
    this.#pieceAt = now;
    this.#answer = appended(this.#answer, text);
    this.#showAnswer();
    this.#awaitEndOfAnswer();
    if (!data) return;
    const rateHz = pcmRate(format);
    if (!rateHz) {
      const words = `It came as ${format}, which this page cannot play.`;
      return this.#tell("sound", "This answer can only be read", words);
    }
    if (!this.#hushed) void this.#sound?.play(fromBase64(data), rateHz);
  }

  #playerChanged(playing) {
    this.#playing = playing;
    if (playing) {
      this.#timing ||= this.#stopwatch.answered(performance.now());
      this.#showAnswer();
      this.#voices.follow(this.#sound, () => this.#microphone === "on" || this.#playing);
    } else {
      this.#awaitEndOfAnswer();
    }
    this.#show();
  }

  #showAnswer() {
    this.#view.showLive("answer", this.#answer.trim(), this.#timing);
  }

  #awaitEndOfAnswer() {
    clearTimeout(this.#answerOver);
    this.#answerOver = setTimeout(() => this.#playing || this.#finishAnswer(), ANSWER_OVER_MS);
  }

  /** Moves the answer from where it grows into the conversation. */
  #finishAnswer() {
    clearTimeout(this.#answerOver);
    const words = this.#answer.trim();
    if (words) this.#view.addTurn("answer", words, { timing: this.#timing });
    this.#answer = this.#timing = "";
    this.#view.showLive("answer", "");
  }

  #refused({ code, message }) {
    if (code === "AUDIO_STREAM_INACTIVE" || code === "AUDIO_UNSUPPORTED") {
      this.#stream = null; // the server has ended it: the next chunk begins another
      if (this.#microphone === "on") this.#stopListening();
      this.#outbox = [];
    }
    this.#tell("server", "The server says", message, { passing: true });
  }

  // -- what is seen

  #tell(about, title, words, how) {
    this.#trouble = about;
    this.#view.notify(title, words, how);
  }

  #tellOfMicrophone(kind) {
    this.#tell("microphone", ...MICROPHONE_TROUBLE[kind], { urgent: true });
  }

  /** Takes the notice away if it is about what is now in order. */
  #settled(about) {
    if (this.#trouble !== about) return;
    this.#trouble = null;
    this.#view.settle();
  }

  #show() {
    this.#view.setState(...this.#situation(), this.#microphone !== "off");
  }

  #situation() {
    const connection = this.#connection.state;
    const microphone = this.#microphone;
    const asking = microphone === "asked" && performance.now() - this.#asked.at >= ASKING_MS;
    const opening = connection === "connecting" || microphone === "asked" || microphone === "given";
    if (["waiting", "probing"].includes(connection)) return ["trouble", "Reconnecting…"];
    if (asking) return ["asking", "Waiting for the microphone…"];
    if (opening) return ["busy", "Connecting…"];
    if (this.#playing) return ["answering", "Answering"];
    if (microphone === "on") return ["listening", "Listening"];
    if (["token", "gone", "stop"].includes(connection)) return ["trouble", "Not connected"];
    return ["ready", "Ready"];
  }

  async #showAbout() {
    try {
      const answer = await fetch("about", { cache: "no-store" });
      const { name, version, upstream } = await answer.json();
      this.#view.about.title = `${name} ${version}`;
      this.#view.about.textContent = `Answers come from: ${upstream}`;
    } catch {
      this.#view.about.textContent = `The server does not answer at ${location.host}.`;
    }
  }
}

function onSubmit(form, act) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    act();
  });
}

const TOKEN_KEY = "antiphon.token";

/** Returns the token this tab was given before a reload, or "". */
function storedToken() {
  try {
    return sessionStorage.getItem(TOKEN_KEY) ?? "";
  } catch {
    return ""; // the browser allows this page no storage
  }
}

function storeToken(token) {
  try {
    sessionStorage.setItem(TOKEN_KEY, token);
  } catch {
    // Without storage the token lasts until the page is left.
  }
}

/** The rate of a MIME type of raw mono PCM16, or undefined for anything else. */
function pcmRate(format) {
  const [type, ...parameters] = format.toLowerCase().split(";").map((part) => part.trim());
  const values = new Map(parameters.map((parameter) => parameter.split("=")));
  const rateHz = Number(values.get("rate"));
  const mono = Number(values.get("channels") ?? 1) === 1;
  const possible = Number.isInteger(rateHz) && rateHz >= 8000 && rateHz <= 96000;
  return type === "audio/pcm" && mono && possible ? rateHz : undefined;
}

/** Text with a piece after it: as it comes, but for a space where a new sentence follows without one. */
function appended(text, piece) {
  return /[.!?…]$/.test(text) && /^\p{L}/u.test(piece) ? `${text} ${piece}` : text + piece;
}

function toBase64(buffer) {
  return btoa(String.fromCharCode(...new Uint8Array(buffer)));
}

function fromBase64(data) {
  const bytes = Uint8Array.from(atob(data), (character) => character.charCodeAt(0));
  return bytes.buffer.slice(0, bytes.length - (bytes.length % 2));
}

if (!inWorklet) new App().start();

export { Resampler };
