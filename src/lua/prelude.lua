-- What of the standard library is made to fit: errors that bindings raise arrive as strings, like all others; the one that
-- says that the user wants an end is passed on.
local message, traceback, is_interruption, note_changes = ...

local function tidy(ok, ...)
  if ok then return ok, ... end
  local e = ...
  if is_interruption(e) then error(e, 0) end
  return ok, message(e)
end

local pcall0, xpcall0, resume0 = pcall, xpcall, coroutine.resume

function pcall(f, ...)
  return tidy(pcall0(f, ...))
end

function xpcall(f, handler, ...)
  return tidy(xpcall0(f, function(e)
    if is_interruption(e) then return e end
    return handler(message(e))
  end, ...))
end

function coroutine.resume(co, ...)
  return tidy(resume0(co, ...))
end

debug = debug or { traceback = traceback }

-- Functions by which a script changes files, or has programs change them: the next live process is to see that. The
-- original tables stay in package.loaded, where error messages find the names of the functions.
local function noting(library, names)
  local copy = {}
  for name, value in pairs(library) do copy[name] = value end
  for name, lasting in pairs(names) do
    local call = library[name]
    copy[name] = call and function(...)
      note_changes(lasting)
      return call(...)
    end
  end
  return copy
end

if io then io = noting(io, { open = false, output = false, popen = true }) end
if os then os = noting(os, { execute = false, remove = false, rename = false, tmpname = false }) end
