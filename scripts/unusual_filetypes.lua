-- What do programs make of a file that turns out to be something else? Each is recorded once on a regular file; then
-- every call by which it asks what that file is (stat, lstat, fstat, newfstatat, statx) is answered with every other
-- type, one at a time, in a live copy of it that goes on for real as soon as it does something else.
--
--   rrapper scripts/unusual_filetypes.lua [program…]

local folder = require "rrapper.folder"
local report = require "rrapper.report"

local types = {
  { "directory", C.S_IFDIR },
  { "character device", C.S_IFCHR },
  { "block device", C.S_IFBLK },
  { "FIFO", C.S_IFIFO },
  { "symbolic link", C.S_IFLNK },
  { "socket", C.S_IFSOCK },
}
local permissions <const> = 0xFFF

-- The file that each works on is "file"; what it makes is removed before the questions are asked.
local programs = {
  { "wc", "file" },
  { "du", "file" },
  { "install", "file", "made" },
  { "fmt", "file" },
  { "od", "file" },
  { "ptx", "file" },
  { "comm", "file", "other" },
  { "pr", "file" },
  { "sed", "s/a/b/", "file" },
  { "sed", "-i", "s/a/b/", "file" },
}

--- The seconds since the machine was started.
local function now()
  local file <close> = assert(io.open "/proc/uptime")
  return file:read "n"
end

--- Records a program in a folder of its own, and leaves the folder as it was.
local function record(work, command)
  local file = work:write("file", "a line\nand another\n")
  work:write("other", "a line\n")
  -- The same file is to be there again, and not one like it.
  assert(os.execute(("cd '%s' && ln file kept"):format(work.path)))
  local recording = rr.record {
    cwd = work.path, out = work:join "recording", table.unpack(command),
  }
  assert(os.rename(work:join "kept", file))
  os.remove(work:join "made")
  return recording, file
end

--- Answers one call with another type, and lets the program go on.
local function ask(stop, event, kind)
  local function answer(call)
    call.stat.mode = call.stat.mode & permissions | kind
  end
  local copy <close> = stop:spin_off()
  return copy:inject {
    [event.name] = { exit = answer, when = "1" },
    on_divergence = "live", finally = "live",
  }
end

--- What happened, in words. Where something was missing that the program would have had, it may have noticed that.
local function told(outcome, recorded)
  local verdict, detail = report.verdict(outcome, recorded)
  local told = ("not: %s: %s"):format(verdict, detail)
  if verdict == "noticed" then told = "noticed: " .. detail end
  if verdict == "same" then told = "not: same output, same exit" end
  return table.concat({ told, table.unpack(outcome.missing) }, "; without ")
end

local wanted = {}
for _, name in ipairs(arg) do wanted[name] = true end

local begun = now()
local rows, noticed = {}, 0
for _, command in ipairs(programs) do
  if #arg == 0 or wanted[command[1]] then
    print("$ " .. table.concat(command, " "))
    local work <close> = folder.new()
    local recording, file = record(work, command)
    local recorded = recording:outcome()
    local count = {}
    for event in recording:events { syscall = "%%stat", path = file } do
      count[event.name] = (count[event.name] or 0) + 1
      local call = ("%s %d"):format(event.name, count[event.name])
      local stop = recording:replay_to(event)
      for _, type in ipairs(types) do
        local outcome = ask(stop, event, type[2])
        local what = told(outcome, recorded):gsub(work.path .. "/", "")
        if what:find "^noticed" then noticed = noticed + 1 end
        rows[#rows + 1] = { table.concat(command, " "), call, type[1], what }
      end
    end
  end
end

print()
report.table({ "program", "call", "type", "noticed or not, and what happened" }, rows)
print(("\n%d answers, of which %d were noticed, in %.1f s"):format(#rows, noticed, now() - begun))
