-- Spins copies off the recording "rec" at some events: the process of the event, and another one that is alive then.
-- Each must stand there with its registers and threads, and make the calls that come next.
--
--   spin.lua SEED COUNT

local seed, count = tonumber(arg[1]), tonumber(arg[2])
local rec = rr.open "rec"
math.randomseed(seed)

-- So many events are enough for ten calls: some, as of clocks, are not counted.
local MANY = 60

-- The first and last event of each task, and how it was made.
local life, tids, thread_of = {}, {}, {}
for event in rr.events {} do
  local tid, n = event.tid, event.event
  if not life[tid] then
    life[tid] = { n, n }
    tids[#tids + 1] = tid
  end
  life[tid][2] = n
  if event.name and event.name:match "^clone" and event.ret and event.ret > 0
    and tostring(event):find "CLONE_THREAD" then
    thread_of[event.ret] = tid
  end
end

local function process_of(tid)
  while thread_of[tid] do tid = thread_of[tid] end
  return tid
end

local function alive(tid, n) return life[tid][1] <= n and n <= life[tid][2] end

local function check(n, tid, copy)
  local where = ("seed %d, event %d, task %d: "):format(seed, n, tid)
  local regs = copy:regs()
  assert(regs.rip ~= 0, where .. "it has no registers")
  assert(#copy:maps() > 1, where .. "it has no memory")
  local known = {}
  -- One that executes a program has no other threads any more.
  local executes = rec:event(n).name:find "^execve"
  for _, thread in ipairs(copy:threads()) do known[thread] = true end
  for _, other in ipairs(tids) do
    if process_of(other) == process_of(tid) and alive(other, n) and not executes then
      assert(known[other], where .. "it lacks thread " .. other)
    end
  end
  local proc <close> = assert(io.open(("/proc/%d/status"):format(copy.real_pid)))
  local really = tonumber(proc:read("a"):match "Threads:%s+(%d+)")
  assert(really == #copy:threads(), ("%sit has %d threads, not %d"):format(where, really, #copy:threads()))
  -- It follows its recording for a while, or to its end.
  local left, signal = 0, nil
  for event in rr.events { pid = tid, from = n } do
    if event.kind == "call" then left = left + 1 else signal = signal or event.event end
    if left == MANY then break end
  end
  if left == 0 then
    copy:kill()
    return "nothing left"
  end
  -- The calls of a trace may be fewer than its events: one that is made again is one.
  local outcome = copy:inject(nil, 0, left == MANY and 9 or nil, { timeout = left == MANY and 10 or 1 })
  local diverged, late = outcome.divergence, outcome.status == "timeout"
  -- Nor does it tell at which instruction a signal came that found no call.
  if signal and (late or diverged and diverged.event > signal) then return "depends on a signal" end
  -- One that was killed has nothing more in its trace, and waits.
  if late and left < MANY then return "waits at its end" end
  assert(diverged == nil, where .. tostring(diverged))
  assert(outcome.status == "completed" or outcome.status == "exited" or outcome.status == "signaled",
    where .. tostring(outcome))
  return outcome.status
end

for _ = 1, count do
  local n = math.random(#rec)
  local stop = rr.replay_to(n)
  local tid = stop.tid
  local others = {}
  for _, other in ipairs(tids) do
    if process_of(other) ~= process_of(tid) and alive(other, n) then others[#others + 1] = other end
  end
  print(n, tid, check(n, tid, stop:spin_off()))
  if #others > 0 then
    local other = others[math.random(#others)]
    print(n, other, check(n, other, stop:spin_off(other)))
  end
end
