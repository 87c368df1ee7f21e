-- Drives a recorded web server through a request of another day.
--
--   rrapper scripts/server_replay.lua
--
-- Records a small server as it answers a request, runs it again under strace, which writes down another request, and injects
-- that one into the recorded server where it accepts a connection. Addresses, ports, pids and times differ between the
-- two runs. Then the same once more, with a network that fails. Needs python3, curl and strace; leaves its files in
-- the current directory.

local SERVER = [[
import http.server, sys

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = f"you asked for {self.path}\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass

    def date_time_string(self, timestamp=None):
        return "today"

server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
with open(sys.argv[1], "w") as port:
    port.write(f"{server.server_port}\n")
server.handle_request()
]]

local BOTH = [[
rm -f port
/usr/bin/python3 -S server.py port &
server=$!
until [ -s port ]; do sleep 0.05; done
curl -s --noproxy '*' "http://127.0.0.1:$(cat port)/$1" > /dev/null
wait $server
]]

local function write(name, text)
  local file = assert(io.open(name, "w"))
  file:write(text)
  file:close()
end

local function accepts(call) return call.name == "accept" or call.name == "accept4" end

write("server.py", SERVER)
write("both.sh", BOTH)

local rec = rr.record{ "sh", "both.sh", "recorded", out = "server.rec" }
assert(rec.exit.code == 0, "the server could not be recorded")
assert(os.execute "strace -f -s 65536 -o server.strace sh both.sh traced", "strace could not run the server")

local other, request = trace.load "server.strace", nil
for _, call in ipairs(other) do
  if accepts(call) and not call.errno then request = request or call end
end
local accepted = assert(rec:find{ syscall = { "accept", "accept4" }, failed = false }, "nobody was accepted")

-- What the server sends, by the calls that it made.
local function sent(outcome)
  local parts = {}
  for _, call in ipairs(outcome.calls) do
    if call.name == "sendto" and not call.errno then parts[#parts + 1] = call.args.buf end
  end
  return table.concat(parts)
end

local outcome = rec:replay_to(accepted):spin_off():inject(other, request.index)
print("the recorded server, given the other request:", outcome.status, outcome.divergence or "as traced")
print((sent(outcome):match "you asked for [^\n]*"))

local outcome = rec:replay_to(accepted):spin_off():inject(other, request.index, nil, {
  recvfrom = { fail = "ECONNRESET", when = "1" },
})
print("when the connection is reset:", outcome.status, outcome.divergence)
