-- Spins copies off the recording "rec" at some events: the process of the event, and another one that is alive then.
-- Each must stand there with its registers and threads, and make the calls that come next.
--
--   spin.lua SEED COUNT

local seed, count = tonumber(arg[1]), tonumber(arg[2])
local rec = rr.open "rec"
math.randomseed(seed)

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

-- Whether memory changes that others write to while the copy runs: the copy does not see that.
local function shares(event)
  local text = tostring(event)
  return event.name == "shmat" or event.name == "vfork" or text:find "CLONE_VM"
    or event.name == "mmap" and text:find "PROT_WRITE, MAP_SHARED"
end

local has_shared = {}
for event in rr.events { syscall = { "mmap", "shmat" } } do
  if shares(event) then has_shared[event.tid] = true end
end

local function alive(tid, n) return life[tid][1] <= n and n <= life[tid][2] end

local function check(n, tid, copy)
  local where = ("seed %d, event %d, task %d: "):format(seed, n, tid)
  local regs = copy:regs()
  assert(regs.rip ~= 0 and regs.rsp ~= 0, where .. "it has no registers")
  assert(#copy:maps() > 1, where .. "it has no memory")
  local known = {}
  for _, thread in ipairs(copy:threads()) do known[thread] = true end
  for _, other in ipairs(tids) do
    if process_of(other) == process_of(tid) and alive(other, n) then
      assert(known[other], where .. "it lacks thread " .. other)
    end
  end
  local status <close> = assert(io.open(("/proc/%d/status"):format(copy.real_pid)))
  local really = tonumber(status:read("a"):match "Threads:%s+(%d+)")
  assert(really == #copy:threads(), ("%sit has %d threads, not %d"):format(where, really, #copy:threads()))
  if really > 1 then
    copy:kill()
    return "threads"
  end
  -- It follows its recording for a while, or to its end, or to where others come in.
  local left, signals = 0, false
  for event in rr.events { pid = tid, from = n } do
    if shares(event) then break end
    if event.kind == "call" then left = left + 1 else signals = true end
    if left == 10 then break end
  end
  if left == 0 then
    copy:kill()
    return "nothing left"
  end
  local outcome = copy:inject(nil, 0, left - 1, { timeout = 10 })
  if signals and outcome.status == "timeout" then return "waits for a signal without a call" end
  if next(has_shared) and (outcome.divergence or outcome.status == "timeout") then return "shared memory" end
  assert(outcome.divergence == nil, where .. tostring(outcome.divergence))
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
