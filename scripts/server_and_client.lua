-- What does a client say when its server has trouble? Both are recorded together, once; each copy of the server gets another
-- answer, and the real client goes on with what comes of it.
--
--   rrapper scripts/server_and_client.lua

local server = [[
import http.server, sys
class Handler(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *_): pass
with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
    print(server.server_port, flush=True)
    server.handle_request()
]]
local both = [[
coproc python3 -c "$1"
read -r port <&"${COPROC[0]}"
curl --noproxy '*' -sS -o /dev/null -w '%{http_code} %{size_download}\n' "http://127.0.0.1:$port/]] .. arg[0] .. [["
echo "curl: $?"
]]
local recording = rr.record { "bash", "-c", both, "bash", server }
local pid
for _, process in ipairs(recording:processes()) do
  if process.exe:match "python" then pid = process.pid end
end

local answers = {
  { "recvfrom", "ECONNRESET" }, { "accept4", "EMFILE" }, { "sendto", "EPIPE" }, { "sendfile", "EIO" }, { "openat", "EACCES", arg[0] },
}
for _, answer in ipairs(answers) do
  local call, errno, path = table.unpack(answer)
  local event = recording:find { pid = pid, syscall = call, path = path and "*/" .. path or nil }
  if event then
    local copy <close> = recording:replay_to(event):spin_off()
    local outcome = copy:inject { [call] = { fail = errno, when = "1" }, on_divergence = "live", timeout = 10 }
    local said = (outcome.stdout .. outcome.stderr:gsub("Traceback.-\n(%w+Error)", "%1")):gsub("\n+$", ""):gsub("\n", "\n    ")
    print(("%s of the server fails with %s: %s\n    %s"):format(call, errno, outcome.status, said))
  end
end
