-- one of 10,000 paths, in turns: no two requests under way have the same
local id = 0

function request()
  id = (id + 1) % 10000
  return wrk.format("GET", "/" .. id)
end
