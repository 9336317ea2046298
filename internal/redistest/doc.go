// Package redistest runs private Redis servers for tests, with the build tag
// integration.
package redistest
