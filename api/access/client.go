package access

import "context"

// Client is who sent a request, as its socket or its token made it known.
type Client struct {
	// Roles are what it may do.
	Roles Roles
	// Name is its token's kid, or what its socket is called.
	Name string
	// UID, GID and PID are those of a process on a Unix socket when it connected;
	// -1 where they are unknown, as over TCP.
	UID, GID, PID int
	// TCP says that it came over TCP.
	TCP bool
	// NoImport says that nothing is imported the way it came, whatever its roles:
	// so it is over TCP unless the configuration allows it.
	NoImport bool
}

// May says whether the client may do an action: by its roles, and by the way it
// came.
func (c Client) May(a Action) bool {
	if c.NoImport && a.imports() {
		return false
	}
	return c.Roles.May(a)
}

// clientKey is the context key of a Client.
type clientKey struct{}

// WithClient gives a context that knows the client.
func WithClient(ctx context.Context, c Client) context.Context {
	return context.WithValue(ctx, clientKey{}, c)
}

// ClientOf gives a context's client: one without any role where there is none.
func ClientOf(ctx context.Context) Client {
	c, _ := ctx.Value(clientKey{}).(Client)
	return c
}
