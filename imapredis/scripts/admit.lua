-- KEYS: the account, the ban of the source, the generation, what counts against the
-- source, what the source has under way.
-- Returns whether the attempt is allowed, until when the source is banned, until when
-- the backend wants to be left alone, and whether the source has too much under way. In
-- the last two cases nothing is reserved. Returns nothing if the server has lost what
-- this instance had merged.
local window, budget, reserve = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local ticket, home, known, again = ARGV[6], ARGV[7], ARGV[8] == '1', ARGV[9] == '1'
local known_for, reserved_for = tonumber(ARGV[10]), tonumber(ARGV[11])
local source_failures, exempt, backend = tonumber(ARGV[13]), ARGV[14] == '1', ARGV[15]

if redis.call('GET', KEYS[3]) ~= ARGV[12] then
	return {}
end
local ends = 0
if home ~= nobody then
	ends = banned(KEYS[2])
	if ends > 0 then
		ends = ends - shift
	end
end
local account = read(KEYS[1])
for other, held in pairs(account.held) do
	if held <= now then
		redis.call('HDEL', KEYS[1], 'h' .. other)
	elseif other == backend then
		return {1, ends, held - shift, 0}
	end
end
if home ~= nobody and not again then
	local at = account.known[home]
	known = known or at and now - at < known_for
end
if not known then
	budget = budget - reserve
end
local count = 0
for _, f in ipairs(account.failures) do
	local over
	if f.ends > 0 then
		over = f.ends <= server
	else
		over = f.at <= now - window
	end
	if over then
		redis.call('HDEL', KEYS[1], 'f' .. f.ticket)
	else
		count = count + 1
	end
end
if count >= budget then
	return {0, ends, 0, 0}
end
if home ~= nobody and not exempt then
	redis.call('ZREMRANGEBYSCORE', KEYS[4], '-inf', int(now - window))
	local under_way, crowd = 0, redis.call('HGETALL', KEYS[5])
	for i = 1, #crowd, 2 do
		if (tonumber(crowd[i + 1]) or 0) <= server then
			redis.call('HDEL', KEYS[5], crowd[i])
		else
			under_way = under_way + 1
		end
	end
	-- One may be under way at any rate: it is the one that bans the source.
	if under_way > 0 and redis.call('ZCARD', KEYS[4]) + under_way >= source_failures then
		return {0, ends, 0, 1}
	end
	redis.call('HSET', KEYS[5], ticket, int(server + reserved_for))
	keep(KEYS[5], reserved_for)
end
put(KEYS[1], ticket, home, now, server + reserved_for)
keep(KEYS[1], window + reserved_for)
return {1, ends, 0, 0}
