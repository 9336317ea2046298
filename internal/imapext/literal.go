package imapext

// literalPlus and literalMinus are LITERAL+ and LITERAL- (RFC 7888). The
// relay asks the backend whether it takes a literal that the client sends at once.
// Of the two one may be offered, and who takes the one takes what the other says.
var (
	literalPlus  = &feature{name: "LITERAL+", native: []string{"LITERAL-"}}
	literalMinus = &feature{name: "LITERAL-", native: []string{"LITERAL+"}, byName: true, instead: "LITERAL+"}
)
