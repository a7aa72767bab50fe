// Ask node_origin.mjs in all the ways that node:http, a plain socket and fetch have; print what the application sees.
import http from "node:http";
import net from "node:net";
import { setTimeout as pause } from "node:timers/promises";

const origin = process.argv[2];
const { hostname, port } = new URL(origin);
const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
const PART = Buffer.alloc(50_000, "part");

function text(stream) {
  return new Promise((resolve, reject) => {
    let heard = "";
    stream.setEncoding("utf8");
    stream.on("data", (part) => { heard += part; });
    stream.on("end", () => resolve(heard));
    stream.on("error", reject);
  });
}

// Send a request, say its parts, and wait for the whole answer.
function ask(path, options = {}, parts = [], trailers = undefined) {
  return new Promise((resolve, reject) => {
    const request = http.request(origin + path, { agent, ...options });
    const told = [];
    request.on("error", reject);
    request.on("information", ({ statusCode, headers }) => told.push([statusCode, headers.link]));
    request.on("response", async (response) => {
      const body = await text(response);
      const { statusCode: status, trailers: ended, headers } = response;
      resolve({ status, body, ended, told, cookies: headers["set-cookie"], kept: request.reusedSocket });
    });
    const say = () => {
      for (const part of parts) request.write(part);
      if (trailers) request.addTrailers(trailers);
      request.end();
    };
    if (options.headers?.expect) {
      request.flushHeaders();
      request.on("continue", () => { told.push("continue"); say(); });
    } else {
      say();
    }
  });
}

async function kept() {
  for (let number = 0; number < 5; number += 1) {
    const { status, body, kept, cookies } = await ask("/echo", { method: "POST" }, [`body ${number}`]);
    console.log("kept", status, body, kept, cookies);
  }
}

async function chunked() {
  const headers = { te: "trailers", trailer: "x-sum", connection: "te" };
  const parts = Array(40).fill(PART);
  const { status, body, ended } = await ask("/echo", { method: "PUT", headers }, parts, { "x-sum": "40" });
  console.log("chunked", status, body, ended["x-sum"]);
}

async function expecting() {
  const options = { method: "POST", headers: { expect: "100-continue", "content-length": 4 } };
  const taken = await ask("/echo", options, ["body"]);
  console.log("expecting", taken.status, taken.told, taken.body);
  const refused = await ask("/refuse", { ...options, agent: undefined });
  console.log("refused", refused.status, refused.told, refused.body);
}

async function hinted() {
  const { status, told, body } = await ask("/hints");
  console.log("hinted", status, told, body);
}

async function headless() {
  const { status, body } = await ask("/echo", { method: "HEAD" });
  console.log("headless", status, JSON.stringify(body));
}

// An answer that does not wait for the upload arrives all the same.
async function early() {
  const { status, body } = await ask("/early", { method: "POST", agent: undefined }, Array(40).fill(PART));
  console.log("early", status, body);
}

async function pipelined() {
  const socket = net.connect(port, hostname);
  const one = (body, last) => `POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: ${body.length}\r\n${last}\r\n${body}`;
  socket.write(one("a", "") + one("bb", "") + one("ccc", "Connection: close\r\n"));
  const heard = await text(socket);
  console.log("pipelined", [...heard.matchAll(/HTTP\/1.1 (\d+)|"size":(\d+)/g)].map((found) => found[1] ?? found[2]));
}

async function upgraded() {
  const headers = { connection: "upgrade", upgrade: "shout" };
  const request = http.request(`${origin}/`, { headers });
  request.end();
  const [response, socket, early] = await new Promise((resolve) => {
    request.on("upgrade", (...given) => resolve(given));
  });
  socket.write("hello");
  const first = await new Promise((resolve) => { socket.once("data", resolve); });
  socket.end();
  console.log("upgraded", response.statusCode, response.headers.upgrade, early.length, first.toString(), await text(socket));
}

async function latest(awaited) {
  for (;;) {
    const { body } = await ask("/latest");
    if (body === awaited) return body;
    await pause(20);
  }
}

async function aborted() {
  const request = http.get(`${origin}/endless?get`);
  const response = await new Promise((resolve) => { request.on("response", resolve); });
  await new Promise((resolve) => { response.once("data", resolve); });
  request.destroy();
  console.log("aborted", await latest("get cut"));
}

async function fetched() {
  const got = await fetch(`${origin}/redirect`, { method: "POST", body: "moved" });
  console.log("fetched", got.status, got.redirected, await got.text(), got.headers.get("set-cookie"));
  const stream = new ReadableStream({
    start(controller) {
      for (let number = 0; number < 40; number += 1) controller.enqueue(new Uint8Array(PART));
      controller.close();
    },
  });
  const sent = await fetch(`${origin}/echo`, { method: "POST", body: stream, duplex: "half" });
  console.log("streamed", sent.status, await sent.text());
  const aborting = new AbortController();
  const cut = await fetch(`${origin}/endless?fetch`, { signal: aborting.signal });
  await cut.body.getReader().read();
  aborting.abort();
  console.log("fetch aborted", await latest("fetch cut"));
}

for (const step of [kept, chunked, expecting, hinted, headless, early, pipelined, upgraded, aborted, fetched]) await step();
agent.destroy();
