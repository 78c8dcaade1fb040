"""The paper's tables and curves, as numbers. Imports no other module of resnetlab."""
