-- KEYS: for each source its ban and what counts against it. ARGV has for each until
-- when it is banned, how many wrong logins follow, and these.
local merged_for, most = tonumber(ARGV[3]), tonumber(ARGV[4])
local next_arg = 5

local function arg()
	next_arg = next_arg + 1
	return ARGV[next_arg - 1]
end

for i = 1, #KEYS, 2 do
	local ends = tonumber(arg()) + shift
	if ends > now and ends > banned(KEYS[i]) then
		ban(KEYS[i], ends)
	end
	local count = tonumber(arg())
	for _ = 1, count do
		local pair, at = arg(), math.min(tonumber(arg()) + shift, now)
		if at > tonumber(redis.call('ZSCORE', KEYS[i + 1], pair) or 0) then
			redis.call('ZADD', KEYS[i + 1], int(at), pair)
		end
	end
	if count > 0 then
		redis.call('ZREMRANGEBYSCORE', KEYS[i + 1], '-inf', int(now - merged_for))
		redis.call('ZREMRANGEBYRANK', KEYS[i + 1], 0, -1 - most)
		keep(KEYS[i + 1], merged_for)
	end
end
return 1
