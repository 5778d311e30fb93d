terraform {
  # 1.9: a variable's validation may look at other variables.
  required_version = ">= 1.9"

  required_providers {
    azurerm = {
      source = "hashicorp/azurerm"
      # 4.69.0 brought identity_id to scale rules: no connection string is needed.
      version = ">= 4.69.0, < 5.0.0"
    }
  }
}
