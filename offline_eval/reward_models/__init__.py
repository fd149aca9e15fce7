"""Models of the reward, none of which predicts a row that it was fitted on."""
