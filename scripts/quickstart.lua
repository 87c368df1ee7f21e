-- What do programs do when a read fails? Each is recorded once. Every question is then asked of a live copy of it,
-- spun off the recording at the moment of the read, and not one program has to be run again.
--
--   rrapper scripts/quickstart.lua

local report = require "rrapper.report"
local script = arg[0]

local programs = {
  { "wc", "-l", script },
  { "sha256sum", script },
}

local anomalies = {
  { "fails with EIO", { fail = "EIO", when = "1" } },
  { "is cut short", { short = 100, when = "1" } },
  { "is interrupted", { fail = "EINTR", when = "1" } },
}

for _, command in ipairs(programs) do
  -- Record the program. What it prints appears as it would without rrapper.
  print("$ " .. table.concat(command, " "))
  local recording = rr.record(command)
  local recorded = recording:outcome()
  print(("  recorded: %d events in %s"):format(#recording, recording.dir))

  -- Find the read, and replay up to it: the call has been made, and nobody has answered it yet.
  local read = recording:find { syscall = "read", path = script }
  local stop = recording:replay_to(read)
  print(("  event %d: the first read of %s, of which the program got %d bytes"):format(
    stop.event, script, read.ret))
  print()

  -- Ask. Each copy gets another answer, and then goes on for real.
  print(("  %-14s  %-6s  %-16s  %s"):format("if that read", "ends", "stdout", "stderr"))
  for _, anomaly in ipairs(anomalies) do
    local name, rule = table.unpack(anomaly)
    local copy <close> = stop:spin_off()
    local outcome = copy:inject { read = rule, on_divergence = "live", finally = "live" }
    print(("  %-14s  %-6s  %-16s  %s"):format(
      name, report.ending(outcome), report.compare(outcome.stdout, recorded.stdout),
      report.first_line(outcome.stderr)))
  end
  print()
end

print [[
A short read is no error: who reads again gets the rest. EINTR is none either, but not everyone tries again.
`rrapper events latest` lists the last recording; the script is a few lines of Lua: change the answers.]]
