-- Prints what became of a process so that a person can read it.
--
--   local report = require "rrapper.report"
--   report.print("EIO", outcome)                 -- a paragraph
--   print(report.ending(outcome))                -- a few words

local report = {}

--- How a process ended, in a few words: "exit 1", "SIGSEGV", "timeout", "diverged".
---@param outcome Outcome
---@return string
function report.ending(outcome)
  if outcome.exit_code then return "exit " .. outcome.exit_code end
  return outcome.signal or outcome.status
end

--- What a process wrote beside what another one did: "the same", "nothing", "25 bytes, not 26".
---@param now string
---@param before string
---@return string
function report.compare(now, before)
  if now == before then return "the same" end
  if now == "" then return "nothing" end
  if #now == #before then return "different" end
  return ("%d bytes, not %d"):format(#now, #before)
end

--- The first line of a text; what follows is told by its length.
---@param text string
---@return string
function report.first_line(text)
  local line, rest = text:match "^([^\n]*)\n?(.*)$"
  if rest == "" then return line end
  return ("%s (and %d bytes more)"):format(line, #rest)
end

--- Prints an outcome: what was injected, how the process ended, what it wrote, what was not there.
---@param title string
---@param outcome Outcome
---@param file? file*  standard output if left out
function report.print(title, outcome, file)
  file = file or io.stdout
  local function line(name, text)
    file:write(("  %-9s %s\n"):format(name, (tostring(text):gsub("\n", "\n            "))))
  end
  file:write(title, "\n")
  for _, injected in ipairs(outcome.injected) do line("injected", injected.call) end
  line("ended", tostring(outcome))
  if outcome.stdout ~= "" then line("stdout", outcome.stdout:gsub("\n$", "")) end
  if outcome.stderr ~= "" then line("stderr", outcome.stderr:gsub("\n$", "")) end
  for _, missing in ipairs(outcome.missing) do line("missing", missing) end
  for _, rule in ipairs(outcome.unfired) do line("unfired", rule) end
  if outcome.error then line("error", outcome.error) end
end

return report
