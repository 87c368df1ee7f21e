-- A temporary folder that goes away with the variable that holds it, and everything in it, too.
--
--   local folder = require "rrapper.folder"
--   local work <close> = folder.new()
--   local path = work:write("text", "a line\n")

local folder = {}

---@class Folder
---@field path string
local Folder = {}
Folder.__index = Folder

local function quoted(text)
  return "'" .. text:gsub("'", [['\'']]) .. "'"
end

--- A new folder, in `$TMPDIR` or /tmp.
---@return Folder
function folder.new()
  local command <close> = assert(io.popen "mktemp -d")
  local path = command:read "l"
  if not path or path == "" then error("mktemp made no temporary folder", 2) end
  return setmetatable({ path = path }, Folder)
end

--- The path of a file in it, whether that is there or not.
---@param name string
---@return string
function Folder:join(name)
  return self.path .. "/" .. name
end

--- Writes a file; the folders around it are made.
---@param name string
---@param content string
---@return string path
function Folder:write(name, content)
  local path = self:join(name)
  local around = path:match "^(.*)/"
  if around ~= self.path then assert(os.execute("mkdir -p " .. quoted(around))) end
  local file <close> = assert(io.open(path, "wb"))
  assert(file:write(content))
  return path
end

--- Removes it with everything in it. `local f <close>` does so in any case.
function Folder:remove()
  if not self.path then return end
  os.execute("rm -rf " .. quoted(self.path))
  self.path = nil
end

Folder.__close = Folder.remove

return folder
