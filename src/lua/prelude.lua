-- What of the standard library is made to fit: errors that bindings raise arrive as strings, like all others.
local message, traceback = ...

local function tidy(ok, ...)
  if ok then return ok, ... end
  return ok, message((...))
end

local pcall0, xpcall0, resume0 = pcall, xpcall, coroutine.resume

function pcall(f, ...)
  return tidy(pcall0(f, ...))
end

function xpcall(f, handler, ...)
  return xpcall0(f, function(e) return handler(message(e)) end, ...)
end

function coroutine.resume(co, ...)
  return tidy(resume0(co, ...))
end

debug = debug or { traceback = traceback }
