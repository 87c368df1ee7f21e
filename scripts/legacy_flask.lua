-- The old INI file of rrapper's first version
--
--   [rr_recording]
--   rr_dir = test/flask-1/
--   [request_handling_process]
--   event = 16154
--   pid = 14350
--   trace_file = test/flask_request_snip.strace
--   trace_start = 0
--   trace_end = 13
--
-- as a script. Its values are the defaults; others can be given in the same order:
--
--   rrapper scripts/legacy_flask.lua [RR_DIR [EVENT [PID [TRACE_FILE [TRACE_START [TRACE_END]]]]]]
--
-- What is different now: no patched rr, no ASLR to turn off; and `inject` includes its last call,
-- while the old trace_end was the first call that was left out.

local report = require "rrapper.report"

local rr_dir      = arg[1] or "test/flask-1/"
local event       = tonumber(arg[2] or 16154)
local pid         = tonumber(arg[3] or 14350)
local trace_file  = arg[4] or "test/flask_request_snip.strace"
local trace_start = tonumber(arg[5] or 0)
local trace_end   = tonumber(arg[6] or 13)

local opened, recording = pcall(rr.open, rr_dir)
if not opened then
  local why = recording:gsub("^[^:]*:%d+: ", "")
  io.stderr:write("legacy_flask.lua: ", why, "; give the directory of yours as the first argument\n")
  os.exit(2)
end

recording:replay_to(event)
local process <close> = spin_off(pid)

-- The old tool answered every call as the trace does, and said at which call the process did something else.
local outcome = process:inject(trace_file, trace_start, trace_end - 1)
report.print(("process %d from event %d on, driven through %s"):format(pid, event, trace_file), outcome)

-- What the old tool could not do: let the client of the web server be gone while it is being answered.
local stop = recording:replay_to(event)
local again <close> = stop:spin_off(pid)
outcome = again:inject(trace_file, trace_start, trace_end - 1, {
  send = { fail = "EPIPE", when = "3+" },
  on_divergence = "stop",
})
report.print("the same, and from its third send on nobody is there to read", outcome)
