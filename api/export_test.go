package api

// BodiesInFlight says whether bodies take anything of their budget.
func (s *Server) BodiesInFlight() bool { return s.bodies.taken.Load() > 0 }
