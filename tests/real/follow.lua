-- Spins copies off the recording "rec" at some events, which then follow it to its end: each alone but for those that share
-- memory with it, and each with its whole family. All must end as they did when they were recorded.
--
--   follow.lua COUNT

local count = tonumber(arg[1])
local rec = rr.open "rec"

local recorded = {}
for _, process in ipairs(rec:processes()) do recorded[process.pid] = process end

local bad = {}

local function look(o, all)
  local d = o.divergence
  if d then
    return ("process %d left it at event %s: %s instead of %s (%s)"):format(d.pid, d.event, d.actual, d.expected, d.doubt)
  end
  if o.status ~= "exited" and o.status ~= "signaled" then return o.status end
  for _, process in ipairs(o.processes) do
    local was = recorded[process.pid].exit
    local is = process.exit_code or process.signal
    if is and was and is ~= (was.code or was.signal) then
      return ("process %d ended with %s, and %s when it was recorded"):format(process.pid, is, tostring(was))
    end
    if all and not is and was then return ("process %d did not end"):format(process.pid) end
  end
end

local checked = 0
for i = 1, count do
  local event = math.max(1, i * (#rec - 1) // count)
  for _, all in ipairs { false, true } do
    local stop = rr.replay_to(event)
    local hooks = { timeout = 60 }
    if all then hooks[1] = { on = "*", pid = "any", enter = function() end } end
    local o = stop:spin_off():inject(hooks)
    local why = look(o, all)
    if why then bad[#bad + 1] = ("event %d, %s: %s"):format(event, all and "all" or "own", why) end
    checked = checked + #o.processes
  end
end
print(#bad == 0 and "followed" or table.concat(bad, "\n"))
assert(checked >= 2 * count)
