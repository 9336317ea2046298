-- KEYS: the account, the ban of the source, the generation.
-- Returns whether the attempt is allowed, until when the source is banned, and
-- until when the backend wants to be left alone. Then nothing is reserved. Returns
-- nothing if the server has lost what this instance had merged.
local window, budget, reserve = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local ticket, home, known, again = ARGV[6], ARGV[7], ARGV[8] == '1', ARGV[9] == '1'
local known_for, reserved_for = tonumber(ARGV[10]), tonumber(ARGV[11])

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
if account.held > now then
	return {1, ends, account.held - shift}
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
	return {0, ends, 0}
end
put(KEYS[1], ticket, home, now, server + reserved_for)
keep(KEYS[1], window + reserved_for)
return {1, ends, 0}
