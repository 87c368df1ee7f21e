-- What of the standard library is made to fit: errors that bindings raise arrive as strings, like all others; the one that
-- says that the user wants an end is passed on.
local message, traceback, is_interruption = ...

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
