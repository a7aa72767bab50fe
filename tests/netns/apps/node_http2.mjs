// Ask node_origin.mjs over one node:http2 session in all the ways it has; print what the application sees.
import http2 from "node:http2";
import { setTimeout as pause } from "node:timers/promises";

const origin = process.argv[2];
const session = http2.connect(origin);
const PART = Buffer.alloc(50_000, "part");

// Send a request, say its parts, and wait until the stream has closed.
function ask(headers, parts = [], { trailers, cancel } = {}) {
  return new Promise((resolve) => {
    const stream = session.request(headers, { endStream: false, waitForTrailers: Boolean(trailers) });
    const seen = { told: [], body: "" };
    stream.setEncoding("utf8");
    stream.on("headers", (head) => seen.told.push([head[":status"], head.link]));
    stream.on("response", (head) => { seen.status = head[":status"]; seen.cookies = head["set-cookie"]; });
    stream.on("trailers", (given) => { seen.sum = given["x-sum"]; });
    stream.on("data", (part) => {
      seen.body += part;
      if (cancel) stream.close(http2.constants.NGHTTP2_CANCEL);
    });
    stream.on("wantTrailers", () => stream.sendTrailers(trailers));
    stream.on("error", (error) => { seen.error = error.code; });
    stream.on("close", () => resolve({ ...seen, code: stream.rstCode }));
    for (const part of parts) stream.write(part);
    stream.end();
  });
}

async function many() {
  const asked = Array.from({ length: 200 }, (_, number) => ask({ ":method": "POST", ":path": "/echo" }, [`${number}`, PART]));
  const sizes = (await Promise.all(asked)).map(({ status, body, code }) => `${status} ${code} ${JSON.parse(body).size}`);
  console.log("many", sizes.join());
}

async function trailing() {
  const parts = Array(40).fill(PART);
  const { status, body, sum, cookies } = await ask({ ":method": "PUT", ":path": "/echo" }, parts, { trailers: { "x-sum": "40" } });
  console.log("trailing", status, body, sum, cookies);
}

async function hinted() {
  const { status, told } = await ask({ ":path": "/hints" });
  console.log("hinted", status, told);
}

async function early() {
  const { status, body, code, error } = await ask({ ":method": "POST", ":path": "/early" }, Array(40).fill(PART));
  console.log("early", status, body, code, error);
}

async function reset() {
  const { status, body, error, code } = await ask({ ":path": "/reset" });
  console.log("reset", status, body, error, code);
}

async function latest(awaited) {
  for (;;) {
    const { body } = await ask({ ":path": "/latest" });
    if (body === awaited) return body;
    await pause(20);
  }
}

async function cancelled() {
  const { status, code } = await ask({ ":path": "/endless?stream" }, [], { cancel: true });
  console.log("cancelled", status, code, await latest("stream 8"));
}

async function pinged() {
  const echoed = await new Promise((resolve, reject) => {
    session.ping(Buffer.from("12345678"), (error, _, payload) => (error ? reject(error) : resolve(payload)));
  });
  console.log("pinged", echoed.toString());
}

async function connected() {
  const settings = session.remoteSettings.enableConnectProtocol;
  const stream = session.request({ ":method": "CONNECT", ":protocol": "websocket", ":path": "/chat", ":scheme": "http" });
  stream.setEncoding("utf8");
  let heard = "";
  stream.on("data", (part) => {
    heard += part;
    if (heard === "websocket") stream.write("hello");
    if (heard === "websocketHELLO") stream.end();
  });
  await new Promise((resolve) => { stream.on("close", resolve); });
  console.log("connected", settings, heard, stream.rstCode);
}

// What an origin leaves or refuses is between it and whoever dialled it.
async function leaving() {
  for (const path of ["/leave", "/echo", "/leave", "/echo", "/refuse", "/echo"]) {
    const { status, code } = await ask({ ":path": path });
    console.log("leaving", path, status, code);
  }
}

const STEPS = { seen: [many, trailing, hinted, early, reset, cancelled, pinged, connected], leaving: [leaving] };
for (const step of STEPS[process.argv[3]]) await step();
await new Promise((resolve) => { session.close(resolve); });
console.log("closed");
