// An origin for clients that leave: it says by an informational response that it was asked, and notes how each exchange ended.
// Ports: node:http and node:http2; GET /outcomes tells what was noted.
import http from "node:http";
import http2 from "node:http2";

const outcomes = {};
const [port1, port2] = process.argv.slice(2).map(Number);

function answer(request, response) {
  if (request.url === "/outcomes") {
    response.end(JSON.stringify(outcomes));
    return;
  }
  const { stream } = response;
  let finished = false;
  response.on("finish", () => { finished = true; });
  response.on("close", () => {
    outcomes[request.url] = finished && !stream?.rstCode ? "answered" : "left";
  });
  request.on("error", () => {});
  response.on("error", () => {});
  response.writeEarlyHints({ link: "</style.css>; rel=preload" });
  request.resume();
  request.on("end", () => {
    if (request.url.startsWith("/hold")) return;
    response.write("some");
    if (request.url.startsWith("/read")) response.end(" and whole");
  });
}

http.createServer(answer).listen(port1, "::");
http2.createServer(answer).listen(port2, "::");
