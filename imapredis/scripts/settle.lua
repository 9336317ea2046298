-- KEYS: the account, the ban of the source, what counts against the source, what the
-- source has under way.
local window, ticket, home, pair = tonumber(ARGV[3]), ARGV[4], ARGV[5], ARGV[6]
local granted, failed, stale, exempt = ARGV[7] == '1', ARGV[8] == '1', ARGV[9] == '1', ARGV[10] == '1'
local held = tonumber(ARGV[11])
local most, source_failures, source_ban = tonumber(ARGV[12]), tonumber(ARGV[13]), tonumber(ARGV[14])
local most_known, known_for, forgive = tonumber(ARGV[15]), tonumber(ARGV[16]), tonumber(ARGV[17])
local slack, backend = tonumber(ARGV[2]), ARGV[18]

-- A ticket that has failed before stays failed if nothing has come of it now.
local before = redis.call('HGET', KEYS[1], 'f' .. ticket)
if before and (granted or not before:match(' [-0]$')) then
	redis.call('HDEL', KEYS[1], 'f' .. ticket)
end
redis.call('HDEL', KEYS[4], ticket)
if held > 0 then
	held = held + shift
	if held > (tonumber(redis.call('HGET', KEYS[1], 'h' .. backend) or 0) or 0) then
		redis.call('HSET', KEYS[1], 'h' .. backend, int(held))
		keep(KEYS[1], held - now + slack)
	end
end
if failed then
	put(KEYS[1], ticket, home, now, 0, stale)
	keep(KEYS[1], window + slack)
	trim_failures(KEYS[1], read(KEYS[1]).failures, most)
end
if granted then
	if home ~= nobody then
		redis.call('HSET', KEYS[1], 'k' .. home, int(now))
		keep(KEYS[1], known_for)
		local account = read(KEYS[1])
		trim_known(KEYS[1], account.known, most_known, known_for)
		-- What the same source mistyped before is forgiven, up to a limit. What others
		-- got wrong still counts; and an exempt source may be many.
		local forgiven = account.forgiven
		if now - account.forgave >= window then
			forgiven = 0
		end
		table.sort(account.failures, function(a, b) return a.at < b.at end)
		for _, f in ipairs(account.failures) do
			if f.home == home and f.ends == 0 and not f.stale and f.at > now - window then
				if exempt or forgiven >= forgive then
					put(KEYS[1], f.ticket, home, f.at, 0, true)
				else
					forgiven = forgiven + 1
					redis.call('HDEL', KEYS[1], 'f' .. f.ticket)
					redis.call('HSET', KEYS[1], 'g', int(forgiven) .. ' ' .. int(now))
				end
			end
		end
		-- The first half of a wrong login is the account's.
		for _, member in ipairs(redis.call('ZRANGE', KEYS[3], 0, -1)) do
			if member:sub(1, 8) == pair:sub(1, 8) then
				redis.call('ZREM', KEYS[3], member)
			end
		end
	end
end
if failed and home ~= nobody then
	redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', int(now - window))
	redis.call('ZADD', KEYS[3], int(now), pair)
	redis.call('ZREMRANGEBYRANK', KEYS[3], 0, -1 - source_failures)
	keep(KEYS[3], window + slack)
	if redis.call('ZCARD', KEYS[3]) >= source_failures and not exempt and banned(KEYS[2]) == 0 then
		ban(KEYS[2], now + source_ban)
		redis.call('DEL', KEYS[3])
	end
end
return 1
