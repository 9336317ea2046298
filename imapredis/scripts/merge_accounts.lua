-- KEYS: accounts. ARGV has for each of them how many backends follow that want to be
-- left alone and these, how many failures follow and these, and how many known sources
-- follow and these.
local merged_for, most, most_known, known_for = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local slack = tonumber(ARGV[2])
local next_arg = 7

local function arg()
	next_arg = next_arg + 1
	return ARGV[next_arg - 1]
end

-- when reads a time, which cannot be in the future.
local function when()
	return math.min(tonumber(arg()) + shift, now)
end

for _, key in ipairs(KEYS) do
	local account = read(key)
	for _ = 1, tonumber(arg()) do
		local backend, held = arg(), tonumber(arg())
		if held + shift > math.max(now, account.held[backend] or 0) then
			redis.call('HSET', key, 'h' .. backend, int(held + shift))
			keep(key, held + shift - now + slack)
		end
	end
	local failures = {}
	for _ = 1, tonumber(arg()) do
		local ticket, home, at = arg(), arg(), when()
		table.insert(failures, {ticket = ticket, home = home, at = at, ends = 0, stale = arg() == '1'})
	end
	for _ = 1, tonumber(arg()) do
		local home, at = arg(), when()
		if now - at < known_for and at > (account.known[home] or 0) then
			account.known[home] = at
			redis.call('HSET', key, 'k' .. home, int(at))
			keep(key, known_for)
		end
	end
	trim_known(key, account.known, most_known, known_for)

	-- A login has the failures of its source forgotten that were before it, whoever
	-- has counted them.
	local function forgotten(f)
		return f.at <= account.lifted or f.home ~= nobody and not f.stale and f.at <= (account.known[f.home] or 0)
	end
	local kept = {}
	for _, f in ipairs(account.failures) do
		if f.ends == 0 and forgotten(f) then
			redis.call('HDEL', key, 'f' .. f.ticket)
		else
			kept[f.ticket] = f
		end
	end
	for _, f in ipairs(failures) do
		local there = kept[f.ticket]
		if there and there.ends > 0 then
			redis.call('HDEL', key, 'f' .. f.ticket)
			kept[f.ticket], there = nil, nil
		end
		if (not there or f.at > there.at) and not forgotten(f) and now - f.at < merged_for then
			put(key, f.ticket, f.home, f.at, 0, f.stale)
			keep(key, merged_for)
			kept[f.ticket] = f
		end
	end
	local list = {}
	for _, f in pairs(kept) do
		table.insert(list, f)
	end
	trim_failures(key, list, most)
end
return 1
