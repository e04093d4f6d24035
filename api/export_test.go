package api

// BodiesInFlight says whether bodies take anything of their budget.
func (s *Server) BodiesInFlight() bool { return s.bodies.taken.Load() > 0 }

// OpenViews is how many states are kept open for readers.
func (s *Server) OpenViews() int {
	s.views.mu.Lock()
	defer s.views.mu.Unlock()
	return len(s.views.open)
}

// FillOf is fillOf.
var FillOf = fillOf
