-- The disk is full at the n-th write: is the database still sound, and which state does it have? A transaction is recorded
-- once. Each of its writes is then failed in a copy, which goes on live on the files of that moment; and when it has ended,
-- the same sandbox is asked.
--
--   rrapper scripts/disk_full.lua

local report = require "rrapper.report"

local function lines(text)
  return (text:gsub("\n$", ""):gsub("\n", ", "))
end

-- What to record, what to ask the box afterwards, and what its answer means.
local subjects = {
  {
    setup = "sqlite3 t.db 'create table t (n); insert into t values (1)'",
    "sqlite3", "t.db", "insert into t values (2)",
    sound = { "sqlite3", "t.db", "pragma integrity_check" },
    state = { "sqlite3", "t.db", "select group_concat(n) from t" },
    states = { ["1"] = "old", ["1,2"] = "new" },
  },
  {
    setup = [[git init -q . && git config user.email me@example.org && git config user.name me && git config gc.auto 0 &&
      git config maintenance.auto false && echo 1 >f && git add f && git commit -q -m old && echo 2 >f && git add f]],
    "git", "commit", "-q", "-m", "new",
    sound = { "git", "fsck", "--no-progress", "--no-dangling" },
    state = { "git", "log", "-1", "--format=%s" },
    states = {},
  },
}

local work = os.tmpname()
os.remove(work)

for _, subject in ipairs(subjects) do
  assert(os.execute(("rm -rf %s && mkdir %s && cd %s && { %s; }"):format(work, work, work, subject.setup)))
  local command = { cwd = work, table.unpack(subject) }
  local recording = rr.record(command)
  print("$ " .. table.concat(subject, " "))
  print(("  %-28s  %-9s  %-8s  %-22s  %s"):format("ENOSPC from", "then", "ends", "sound", "state"))
  for _, rest in ipairs { "once", "always" } do
    local nth = 0
    for event in recording:events { syscall = "write,pwrite64,writev,pwritev" } do
      nth = nth + 1
      local copy <close> = recording:replay_to(event):spin_off()
      local sound, state
      local outcome = copy:inject {
        ["write,pwrite64,writev,pwritev,fallocate,ftruncate"] = { fail = "ENOSPC", when = rest == "once" and "1" or "1+" },
        on_divergence = "live", finally = "live",
        after = function(box)
          local check = { cwd = work, table.unpack(subject.sound) }
          sound = box:run(check)
          state = box:run { cwd = work, table.unpack(subject.state) }
        end,
      }
      local word = lines(state.stdout)
      local said = lines(sound.stdout .. sound.stderr)
      print(("  %-28s  %-9s  %-8s  %-22s  %s"):format(
        ("write %d (event %d)"):format(nth, event.event), rest, report.ending(outcome),
        sound.exit_code == 0 and said == "" and "ok" or said:sub(1, 22), subject.states[word] or word))
    end
  end
end
os.execute("rm -rf " .. work)
