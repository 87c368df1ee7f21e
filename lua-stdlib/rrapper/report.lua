-- Prints outcomes for people to read.
--
--   local report = require "rrapper.report"
--   report.print("EIO", outcome)                 -- a paragraph
--   print(report.ending(outcome))                -- a few words
--   print(report.verdict(outcome, recorded))     -- whether it noticed

local report = {}

--- How a process ended, in a few words: "exit 1", "SIGSEGV", "timeout", "diverged".
---@param outcome Outcome
---@return string
function report.ending(outcome)
  if outcome.exit_code then return "exit " .. outcome.exit_code end
  return outcome.signal or outcome.status
end

--- Compares the output of a process with that of another: "the same", "nothing", "25 bytes, not 26".
---@param now string
---@param before string
---@return string
function report.compare(now, before)
  if now == before then return "the same" end
  if now == "" then return "nothing" end
  if #now == #before then return "different" end
  return ("%d bytes, not %d"):format(#now, #before)
end

--- The first line of a text, with the length of the rest.
---@param text string
---@return string
function report.first_line(text)
  local line, rest = text:match "^([^\n]*)\n?(.*)$"
  if rest == "" then return line end
  return ("%s (and %d bytes more)"):format(line, #rest)
end

--- Compares the outcome of a program under an anomaly with its outcome without: whether the program noticed, by a message
--- on its standard error or another exit status; and if not, the difference.
---@param outcome Outcome
---@param before Outcome  of the recording, or of a copy that nothing was done to
---@return "noticed"|"same"|"other output"|"crash"|"hang" verdict
---@return string detail  its message, or its end
function report.verdict(outcome, before)
  if outcome.status == "timeout" then return "hang", outcome.hang or "" end
  if outcome.signal then return "crash", outcome.signal end
  if outcome.stderr ~= before.stderr then return "noticed", report.first_line(outcome.stderr) end
  if outcome.exit_code ~= before.exit_code then return "noticed", report.ending(outcome) end
  if outcome.stdout ~= before.stdout then
    return "other output", report.compare(outcome.stdout, before.stdout)
  end
  return "same", ""
end

--- Prints rows below one another, in columns as wide as their widest text; a cell that the row before has as well,
--- and all left of it, is left empty.
---@param heads string[]
---@param rows string[][]
---@param file? file*  standard output if left out
function report.table(heads, rows, file)
  file = file or io.stdout
  local function length(cell) return utf8.len(cell) or #cell end
  local widths = {}
  for n = 0, #rows do
    for i, cell in ipairs(rows[n] or heads) do
      widths[i] = math.max(widths[i] or 0, length(cell))
    end
  end
  local function line(row)
    local cells = {}
    for i, cell in ipairs(row) do
      cells[i] = cell .. (" "):rep(widths[i] - length(cell))
    end
    file:write((table.concat(cells, "  "):gsub(" +$", "")), "\n")
  end
  line(heads)
  for n, row in ipairs(rows) do
    local shown, same = {}, n > 1
    for i, cell in ipairs(row) do
      same = same and i < #row and rows[n - 1][i] == cell
      shown[i] = same and "" or cell
    end
    line(shown)
  end
end

--- Prints an outcome: the injected calls, the end of the process, its output, the objects that were missing.
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
