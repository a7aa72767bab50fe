// An origin on node:http (first port) and node:http2 (second): it answers in the ways that Node's servers do.
import { createHash } from "node:crypto";
import http from "node:http";
import http2 from "node:http2";

const LINK = "</style.css>; rel=preload";
const BLOCK = Buffer.alloc(65536, "node");
let latest = "nothing";

async function whole(stream) {
  const hash = createHash("sha256");
  let size = 0;
  for await (const part of stream) {
    hash.update(part);
    size += part.length;
  }
  return { size, sha256: hash.digest("hex") };
}

// What the client gives up, the origin notes: /latest tells it.
function noteEnd(name, stream) {
  stream.on("close", () => {
    latest = `${name} ${stream.rstCode ?? (stream.writableFinished ? "finished" : "cut")}`;
  });
}

function endless(name, stream) {
  noteEnd(name, stream);
  const push = () => {
    while (!stream.destroyed && stream.write(BLOCK)) ;
  };
  stream.on("drain", push);
  push();
}

async function answer1(request, response) {
  const [path, name] = request.url.split("?");
  switch (path) {
    case "/endless":
      endless(name, response);
      return;
    case "/early":
      response.writeHead(413, { "content-length": 5 });
      response.end("large");
      return;
    case "/hints":
      response.writeEarlyHints({ link: LINK });
      response.writeProcessing();
      response.end("page");
      return;
    case "/redirect":
      response.writeHead(307, { location: "/echo" });
      response.end();
      return;
    case "/latest":
      response.end(latest);
      return;
  }
  const read = await whole(request);
  response.setHeader("Set-Cookie", ["a=1", "b=2"]);
  if (request.headers.te === "trailers") {
    response.writeHead(200, { trailer: "x-sum" });
    response.addTrailers({ "x-sum": request.trailers["x-sum"] ?? "none" });
  }
  response.end(JSON.stringify({ method: request.method, ...read }));
}

const server1 = http.createServer(answer1);
server1.on("checkContinue", (request, response) => {
  if (request.url === "/refuse") {
    response.writeHead(417, { "content-length": 2 });
    response.end("no");
  } else {
    response.writeContinue();
    answer1(request, response);
  }
});
server1.on("upgrade", (request, socket, early) => {
  const protocol = request.headers.upgrade;
  socket.write(`HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: ${protocol}\r\n\r\n`);
  socket.write(early.toString().toUpperCase());
  socket.on("data", (data) => socket.write(data.toString().toUpperCase()));
  socket.on("end", () => socket.end("BYE"));
});

function connect2(stream, headers) {
  stream.respond({ ":status": 200 });
  stream.write(headers[":protocol"]);
  stream.on("data", (data) => stream.write(data.toString().toUpperCase()));
  stream.on("end", () => stream.end("BYE"));
}

async function answer2(stream, headers) {
  if (headers[":method"] === "CONNECT") {
    connect2(stream, headers);
    return;
  }
  const [path, name] = headers[":path"].split("?");
  switch (path) {
    case "/endless":
      stream.respond({ ":status": 200 });
      endless(name, stream);
      return;
    case "/early":
      stream.respond({ ":status": 413 });
      stream.end("large");
      return;
    case "/reset":
      stream.respond({ ":status": 200 });
      stream.write("half", () => stream.destroy(new Error("as asked")));
      return;
    case "/refuse":
      stream.close(http2.constants.NGHTTP2_REFUSED_STREAM);
      return;
    case "/leave":
      stream.respond({ ":status": 200 });
      stream.session.close();
      stream.end("left");
      return;
    case "/latest":
      stream.respond({ ":status": 200 });
      stream.end(latest);
      return;
    case "/hints":
      stream.additionalHeaders({ ":status": 103, link: LINK });
      break;
  }
  let trailers = {};
  stream.on("trailers", (given) => { trailers = given; });
  const read = await whole(stream);
  stream.respond({ ":status": 200, "set-cookie": ["a=1", "b=2"] }, { waitForTrailers: true });
  stream.on("wantTrailers", () => stream.sendTrailers({ "x-sum": trailers["x-sum"] ?? "none" }));
  stream.end(JSON.stringify({ method: headers[":method"], ...read }));
}

const server2 = http2.createServer({ settings: { enableConnectProtocol: true } });
server2.on("stream", (stream, headers) => {
  stream.on("error", () => {});
  answer2(stream, headers).catch(() => {});
});

server1.listen(Number(process.argv[2]), "::");
server2.listen(Number(process.argv[3]), "::");
