-- What becomes of a pipeline when a call of one of its processes fails? It is recorded once; each copy goes on live from the
-- failure with the whole family, so that the others find closed pipes and get SIGPIPE as they really would.
--
--   rrapper scripts/pipeline.lua

local recording = rr.record { "bash", "-c", "seq 200000 | grep 7 | sort -r | head -n 1" }

-- The processes by the names of their programs, and the calls that are to fail.
local names, pids = {}, {}
for _, process in ipairs(recording:processes()) do
  local name = process.exe:match "[^/]*$"
  names[process.pid], pids[name] = name, process.pid
end
local failures = {
  { "seq", "write", "ENOSPC" },
  { "grep", "read", "EIO" },
  { "grep", "write", "EIO" },
  { "sort", "read", "EIO" },
}

for _, failure in ipairs(failures) do
  local name, call, errno = table.unpack(failure)
  local fd = call == "read" and 0 or 1
  local event = recording:find { pid = pids[name], syscall = call, fd = fd }
  local copy <close> = recording:replay_to(event):spin_off()
  local outcome = copy:inject { [call] = { fail = errno, fd = fd, when = "1" }, on_divergence = "live", timeout = 20 }
  print(("%s: the first %s fails with %s; the pipeline ends with %s, and its output is %q"):format(
    name, call, errno, outcome.exit_code, outcome.stdout))
  for _, process in ipairs(outcome.processes) do
    local ending = process.exit_code or process.signal
    if ending and ending ~= 0 then
      print(("  %s ends with %s  %s"):format(names[process.pid] or process.pid, ending, process.stderr:match "[^\n]*"))
    end
  end
end
