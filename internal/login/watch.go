package login

// watcher returns who reads the client's messages of a mechanism, and fills in the
// attempt; nil for a mechanism that is not relayed.
func watcher(mechanism string, a *Attempt) Watcher {
	switch mechanism {
	case XOAuth2:
		return &xoauth2Watcher{attempt: a}
	case OAuthBearer:
		return &bearerWatcher{attempt: a}
	case ScramSHA1, ScramSHA256:
		return &scramWatcher{attempt: a}
	case CramMD5:
		return &cramWatcher{attempt: a}
	case NTLM:
		return &ntlmWatcher{attempt: a}
	case GSSAPI:
		return &gssapiWatcher{attempt: a}
	}
	return nil
}
