-- Spins copies off the recording "rec" at some events and has them go on live with their families. Each must end as it was
-- recorded: the output, and the end of every process that was there.
--
--   live.lua COUNT [FIRST [SAME]]
--
-- SAME is "all", "whole" (single processes may end otherwise, as one that has to try again) or "exit" (their output may differ,
-- too).

local count, first, same = tonumber(arg[1]), tonumber(arg[2] or 1), arg[3] or "all"
local rec = rr.open "rec"
local whole = rec:outcome()

local recorded = {}
for _, process in ipairs(rec:processes()) do recorded[process.pid] = process end

-- How much of a stream is written from an event on, where the calls that write to one file account for all of it.
local writes, totals = {}, {}
for event in rec:events { syscall = "write,writev" } do
  if event.path and event.ret > 0 then
    totals[event.path] = (totals[event.path] or 0) + event.ret
    writes[#writes + 1] = event
  end
end
local function left(stream, from)
  local all = #whole[stream]
  if all == 0 then return 0 end
  for path, total in pairs(totals) do
    if total == all then
      local sum = 0
      for _, event in ipairs(writes) do sum = sum + (event.path == path and event.event >= from and event.ret or 0) end
      return sum
    end
  end
end

local function differs(o, from)
  if o.status ~= "exited" and o.status ~= "signaled" then return ("%s: %s"):format(o.status, tostring(o.hang or o.reason)) end
  if o.exit_code ~= whole.exit_code or o.signal ~= whole.signal then
    return ("it ended with %s %s"):format(o.exit_code, o.signal)
  end
  for _, process in ipairs(o.processes) do
    local was = recorded[process.pid].exit
    local is = process.exit_code or process.signal
    if was and same == "all" and is ~= (was.code or was.signal) then
      return ("process %d ended with %s, and %s when it was recorded"):format(process.pid, is, was.code or was.signal)
    end
  end
  if same == "exit" then return end
  -- Processes that run side by side write in any order.
  for _, stream in ipairs { "stdout", "stderr" } do
    local was, is = whole[stream], o[stream]
    local length = left(stream, from)
    if length and #is ~= length then
      return ("its %s: %q, and not the last %d bytes of: %s"):format(stream, is, length, was)
    end
    local tail = #is == 0 and "" or was:sub(-#is)
    local lines = {}
    for line in tail:gmatch "[^\n]*" do lines[line] = (lines[line] or 0) + 1 end
    for line in is:gmatch "[^\n]*" do lines[line] = (lines[line] or 0) - 1 end
    for _, left in pairs(lines) do
      if left ~= 0 then return ("its %s: %s\ninstead of: %s"):format(stream, is, was) end
    end
  end
end

local bad = {}
for i = first, count do
  local event = math.max(1, i * (#rec - 1) // count)
  local copy = rr.replay_to(event):spin_off()
  local pid = copy.pid
  local o = copy:live { timeout = 20 }
  local why = differs(o, event)
  if why then
    bad[#bad + 1] = ("event %d of process %d, %s: %s\n  %s"):format(event, pid, rec:event(event).name, why, table.concat(o.missing, "\n  "))
  end
end
print(#bad == 0 and "as recorded" or table.concat(bad, "\n"))
